"""Retrieval for Search-QA: the retriever protocol, engines and their indexes, server, client, and the search tool."""
