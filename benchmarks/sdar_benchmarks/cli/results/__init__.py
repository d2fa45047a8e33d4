"""Verbs that show results: `sdar report`, `view`, `compare`, `leaderboard`."""
