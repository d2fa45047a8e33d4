"""Verbs that open servers: `sdar serve webshop`, `sdar serve retriever`, `sdar serve openenv`."""
