"""Search engines over a corpus on disk, one module each; `retrieval.index` builds and opens them."""
