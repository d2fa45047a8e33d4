"""Scripted agents, which need no model: random, oracle, and a rule-based one for each suite."""
