"""Planted faults, and the benchmark that counts how many of them the tests find."""
