"""The retriever's contract, on each database that its catalog may be in."""

import json
from collections.abc import Iterator

import pytest

from tests.contract.retriever.places_to_read import keeper, objects, reading, site
from tests.library import Library
from tests.stack import Process, Stack
from tests.tiny_encoder import build_encoder

__all__ = ["keeper", "library", "objects", "reading", "site", "two_models"]


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


@pytest.fixture(scope="session")
def two_models(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A retriever over an embedder that lists a second model, ``other``, with other dimensions."""
    folder = tmp_path_factory.mktemp("two-models")
    environment = {
        "TRIVIUM_ACCESS_ADDRESS": stack.access.address,
        "TRIVIUM_SERVICE_KEY_FILE": str(stack.data / "keys" / "service.key"),
        "TRIVIUM_EMBEDDER_MODELS": json.dumps([f"file:{build_encoder(folder / 'other')}"]),
        "TRIVIUM_EMBEDDER_THREADS": "1",
        # Nothing to try out at the start.
        "TRIVIUM_EMBEDDER_PRECISION": "float32",
        "TRIVIUM_EMBEDDER_BATCH_TOKENS": "2048",
        "TRIVIUM_DRAIN_SECONDS": "1",
    }
    embedder = Process("embedder", folder, environment).start()
    running = Library(stack, folder, embedder.address)
    yield running
    running.close()
    embedder.stop()
