"""WebShop: the shop, its search, its goals and its score, without Java and without a browser."""
