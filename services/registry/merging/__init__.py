"""Baking an adapter into its base: what the merging child does, with numpy and the standard library alone.

A child of its own under limits (``child``): it reads checked files and writes new ones, a few rows of one matrix
at a time, so that its memory follows neither the model's size nor the number of its shards.
"""
