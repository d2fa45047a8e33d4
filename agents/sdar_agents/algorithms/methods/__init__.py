"""Training methods, one file each: GRPO with a further term, other advantages, or another reader of the skills."""
