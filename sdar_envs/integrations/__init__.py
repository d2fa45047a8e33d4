"""Adapters: the environments inside other people's trainers and evaluations."""
