"""Catalogues of products: official files, the embedded catalogue, and the packed form that the shop reads."""
