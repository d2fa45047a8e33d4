"""HTTP: retry policy (`retries`), client (`transport`, extra `client`), server (`serving`, extra `server`), pages
(`templates`).
"""
