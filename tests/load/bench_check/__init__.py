"""A quick part of each benchmark, compared with stored figures: ``python -m tests.load.bench_check``."""
