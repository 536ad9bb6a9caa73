"""Answers computed again from their receipts, and compared."""
