"""Verbs for training: `sdar train`, `demos`, `sft`, `study`."""
