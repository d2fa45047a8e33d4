"""Files: cached numpy arrays (`arrays`), append-only JSON Lines (`lines`), and files of others (`foreign`)."""
