"""Checks of a run before it begins: settings that fit each other, memory, and whether it can learn."""
