"""Files: cached numpy arrays (`arrays`), append-only JSON Lines (`lines`), files of others (`foreign`, `weights`)."""
