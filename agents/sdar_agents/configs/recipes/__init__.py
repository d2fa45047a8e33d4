"""Parts of recipes: a suite, a model and a number of GPUs make a configuration."""
