"""The databases that the trainer's tables are kept in: each test has SQLite, and one in two PostgreSQL as well."""

import pytest

DATABASES = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.sampled(every=2, family="postgres of the trainer's tables")),
]
