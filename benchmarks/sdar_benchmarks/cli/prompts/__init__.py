"""The verb `sdar prompts`."""
