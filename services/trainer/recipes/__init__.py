"""Recipes: named templates that fill in a whole request from a dataset and one choice."""
