"""Vectors of texts at the one door: the embedder's models under the names that they have there."""
