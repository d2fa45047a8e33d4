"""Maker of `films.jsonl.gz`: facts about films and the people of their credits, out of a pinned package."""
