"""The fixtures that start an embedder and a retriever once for all tests that only use them."""

from collections.abc import Iterator

import pytest

from tests.library import Library, Reader
from tests.own_encoders import Encoders
from tests.stack import Process, Stack


@pytest.fixture(scope="session")
def embedder_address(stack: Stack) -> Iterator[str]:
    """A real embedder, with one thread so that neighbours get on."""
    environment = {"TRIVIUM_ACCESS_ADDRESS": stack.access.address, "TRIVIUM_EMBEDDER_THREADS": "1"}
    process = Process("embedder", stack.data, environment | {"TRIVIUM_DRAIN_SECONDS": "1"}).start()
    yield process.address
    process.stop()


@pytest.fixture(scope="session")
def library(stack: Stack, embedder_address: str) -> Iterator[Library]:
    """A retriever that serves the whole session; each test takes tenants of its own."""
    running = Library(stack, stack.data, embedder_address)
    yield running
    running.close()


@pytest.fixture
def reader(library: Library) -> Reader:
    """Somebody in a new tenant, with an empty collection."""
    return library.newcomer()


@pytest.fixture(scope="session")
def own_encoders(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoders]:
    """An embedder with a registry, and a retriever over it, that serve the whole session."""
    running = Encoders(stack, tmp_path_factory.mktemp("own-encoders"))
    yield running
    running.close()
