"""Vector stores: collections of the retriever in the shape that OpenAI's clients know."""
