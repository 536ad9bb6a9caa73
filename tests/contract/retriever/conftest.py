"""The retriever's contract, on each database that its catalog may be in."""

from collections.abc import Iterator

import pytest

from tests.library import Library
from tests.stack import Stack


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def library(
    request: pytest.FixtureRequest, stack: Stack, embedder_address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    """A retriever over a catalog of each kind; each test takes tenants of its own."""
    environment = {}
    if request.param == "postgres":
        environment["TRIVIUM_RETRIEVER_DATABASE_URL"] = request.getfixturevalue("postgres").database()
    running = Library(stack, tmp_path_factory.mktemp(request.param), embedder_address, environment)
    yield running
    running.close()
