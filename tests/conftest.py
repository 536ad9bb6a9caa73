"""Fixtures of more than one folder; a folder's own stand in its own conftest."""

from tests.fixtures_library import embedder_address, library, reader
from tests.fixtures_stack import stack, user
from tests.postgres import postgres, postgres_url
from tests.s3 import bucket, s3
from tests.weaviate import weaviate

__all__ = [
    "bucket",
    "embedder_address",
    "library",
    "postgres",
    "postgres_url",
    "reader",
    "s3",
    "stack",
    "user",
    "weaviate",
]
