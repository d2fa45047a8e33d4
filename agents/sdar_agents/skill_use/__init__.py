"""Skills in prompts: settings, library and retriever, for rollouts, training and evaluation alike."""
