"""ALFWorld's text games: engine, official and embedded games, experts."""
