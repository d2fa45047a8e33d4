"""Chats as tokens: templates, growing chats, and the reading of completions."""
