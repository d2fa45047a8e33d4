"""Engines behind a server: OpenAI-compatible endpoints, and vLLM by token ids."""
