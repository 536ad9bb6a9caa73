"""Batches: a file of requests, run beside live traffic, and the files of their answers and errors."""
