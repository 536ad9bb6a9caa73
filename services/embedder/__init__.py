"""Texts to vectors, and passages to an order."""
