"""Sweeps: one request that trains many members over settings, ends the worse ones early and keeps the best."""
