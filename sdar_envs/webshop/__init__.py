"""WebShop in pure Python: catalogue, search, goals, pages and score, without Java and without a browser."""
