"""Leaderboard: checked records of results, and the tables made of them."""
