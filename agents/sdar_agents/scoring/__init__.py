"""Scoring: log-probabilities of given tokens under a model, with entropies and divergences; batches and metrics."""
