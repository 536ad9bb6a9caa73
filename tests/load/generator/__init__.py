"""What serving adapters costs beside serving the base: ``python -m tests.load.generator``."""
