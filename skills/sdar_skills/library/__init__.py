"""Skill library: the data types, SKILL.md files, and lookups by id, suite and task type."""
