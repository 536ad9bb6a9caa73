"""How fast the trainer is beside its peers and its floor."""
