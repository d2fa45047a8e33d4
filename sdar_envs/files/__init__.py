"""Files: arrays (`arrays`), JSON Lines (`lines`), locks (`locks`), atomic writes (`replacing`), foreign files."""
