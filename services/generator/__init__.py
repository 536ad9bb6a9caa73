"""The generator: answers from a base model and many resident adapters, hot swapped."""
