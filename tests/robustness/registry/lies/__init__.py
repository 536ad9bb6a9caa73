"""Preludes of registries that break their word on models, to see that the race finds them out."""
