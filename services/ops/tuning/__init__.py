"""A tenant's own embedder or reranker, trained from its own questions and published to the registry."""
