"""File formats: cached numpy arrays (`arrays`) and append-only JSON Lines (`lines`)."""
