"""Checkpoints: of one process and of several, of adapters, and their export."""
