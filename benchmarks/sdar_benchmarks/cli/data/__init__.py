"""Verbs for indexes and benchmarks: `sdar index`, `sdar bench`."""
