"""Every test that uses the stack runs on SQLite with a folder; a share of them, and some always, on PostgreSQL with S3."""

import pytest

from tests.contract.second_store import sample_second_store
from tests.worlds import BUCKET, stack

__all__ = ["stack"]

# About the store: which events there are and in what order, what a search compares, what two writers do at once.
ALWAYS = (
    "test_compaction.py",
    "test_search.py",
    "test_uploads.py",
    "test_watch.py",
    "test_aliases.py::test_of_racing_swaps_exactly_one_wins",
    "test_canaries.py::test_racing_shares_never_exceed_the_whole",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Sample what runs on PostgreSQL."""
    sample_second_store(item, "stack", BUCKET, always=ALWAYS)
