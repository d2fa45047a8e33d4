"""Parts of a run: its folder, log, costs, skills and context."""
