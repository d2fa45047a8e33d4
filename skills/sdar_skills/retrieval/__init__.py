"""Skill retrieval: the strategies that choose skills for a task, bandits among them, and coverage reports."""
