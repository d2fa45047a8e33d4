"""Studies: comparisons of training methods and of skill strategies that run on a CPU."""
