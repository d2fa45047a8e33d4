"""HTML reports of runs, and the web viewer of their episodes."""
