"""The door that batches ask, and where they ask it."""

from collections.abc import Iterator

import pytest

from tests.answering_door import AnsweringDoor, answering_door


@pytest.fixture
def door() -> Iterator[AnsweringDoor]:
    """One a test."""
    with answering_door() as opened:
        yield opened
