"""Orders that hide in documents, and whether a model that answers from these obeys them."""
