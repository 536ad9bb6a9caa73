"""The names that ``model`` accepts."""
