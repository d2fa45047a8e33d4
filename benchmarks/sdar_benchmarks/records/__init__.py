"""Run folders on disk: writers and readers of configurations, episodes, trajectories and metrics."""
