"""Every test that uses the stack runs on SQLite with a folder; a share of them on PostgreSQL with S3 as well."""

import pytest

from tests.worlds import BUCKET, stack

__all__ = ["stack"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Sample what runs on PostgreSQL.  Tests that only `make soak` runs are no part of the sample."""
    called = getattr(item, "callspec", None)
    if called is not None and called.params.get("stack") == BUCKET and item.get_closest_marker("soak") is None:
        item.add_marker(pytest.mark.sampled(every=3, family="robustness/registry on PostgreSQL"))
