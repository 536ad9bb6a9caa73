"""Fixtures of more than one folder; a folder's own stand in its own conftest."""

from tests.fixtures_library import embedder_address, library, reader
from tests.fixtures_stack import stack, user
from tests.postgres import postgres, postgres_url

__all__ = ["embedder_address", "library", "postgres", "postgres_url", "reader", "stack", "user"]
