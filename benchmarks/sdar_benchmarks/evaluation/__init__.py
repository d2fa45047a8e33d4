"""Evaluation: agents play panels of tasks, and every episode is recorded."""
