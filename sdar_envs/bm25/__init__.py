"""BM25 search without dependencies: Lucene's English analyzer and ranking, over a memory-mapped index."""
