"""A shop with room for files of requests."""

import pytest

from tests.unit.files.shop import Shop


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """One with room for files of requests."""
    return Shop(shop.database, shop.blobs, shop.folder, 100_000)
