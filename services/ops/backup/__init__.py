"""Backups of a suite's data folder, taken while it serves, and their way back."""
