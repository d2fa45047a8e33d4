"""Verbs that play environments: `sdar list`, `info`, `play`, `eval`."""
