"""Search engines over a corpus on disk, one module each; `sdar_envs.search_qa.index` builds and opens them."""
