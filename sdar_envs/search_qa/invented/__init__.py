"""Invented corpus of Search-QA: a world made from a seed, its passages, and questions with their hops and evidence."""
