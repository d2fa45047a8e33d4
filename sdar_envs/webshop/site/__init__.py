"""WebShop as a web site (`site`, extra `server`), and the environment that plays on one (`client`, extra `client`)."""

__all__ = ["MARK"]

MARK = "sdar-envs/webshop"
"""The value of `site` at `/api/tasks`, by which the client recognises this package's site."""
