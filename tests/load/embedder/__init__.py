"""How fast the embedder is beside the library that people would otherwise call."""
