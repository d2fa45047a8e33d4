"""Training runs: configuration, the loop, held-out evaluation, checkpoints, logging."""
