"""HTTP client shared by the clients of retrieval servers and WebShop sites (extra `client`)."""
