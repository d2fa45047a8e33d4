"""Throughput benchmarks: speed and memory of environments, search, skills, generation and training."""
