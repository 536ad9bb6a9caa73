"""How much each tenant may use, kept here without asking anybody: see :mod:`gateway.limits.gate`."""
