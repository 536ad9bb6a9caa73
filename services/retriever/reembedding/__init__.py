"""Another embedding model for a collection."""
