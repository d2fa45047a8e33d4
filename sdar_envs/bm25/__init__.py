"""Text search without dependencies: terms as Lucene makes them, ranking by BM25, mapped from disk."""
