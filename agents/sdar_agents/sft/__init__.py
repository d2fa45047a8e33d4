"""Supervised fine-tuning: demonstrations, tiny models, warm starts."""
