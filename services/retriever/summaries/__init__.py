"""Summaries of whole collections: a tree over their chunks, and answers from it."""
