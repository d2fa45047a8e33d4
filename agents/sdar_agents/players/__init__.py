"""Agents for evaluation: a policy or a script as an agent, agents by name, and pools of them."""
