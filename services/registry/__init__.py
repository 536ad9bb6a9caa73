"""adapter-registry: immutable versions of adapters and full models, and the aliases that name them."""
