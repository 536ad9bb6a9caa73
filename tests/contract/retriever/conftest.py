"""The retriever's contract, its catalog in SQLite; for a share of the tests, and some always, in PostgreSQL too."""

import json
from collections.abc import Iterator

import pytest

from tests.contract.retriever.places_to_read import keeper, objects, reading, site
from tests.contract.second_store import sample_second_store
from tests.library import Library, Reader
from tests.stack import Process, Stack, peer_settings
from tests.tiny_encoder import build_encoder

__all__ = ["keeper", "library", "objects", "reading", "site", "two_models"]

# The catalog compares, counts and expires in SQL.
ALWAYS = (
    "test_aggregates.py",
    "test_expiry.py",
    "test_filters.py",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Sample what runs on PostgreSQL."""
    for fixture in ("library", "reading"):
        sample_second_store(item, fixture, "postgres", always=ALWAYS)


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


@pytest.fixture(scope="module")
def owner(library: Library) -> Reader:
    """Somebody in a tenant that the tests of one file share, with a collection that none of them changes."""
    return library.newcomer()


@pytest.fixture
def own_collection(owner: Reader) -> Reader:
    """The same with a collection of this test alone: what the tenant had embedded before is not computed again."""
    other = Reader(owner.api, owner.tenant)
    other.create(other.collection)
    return other


@pytest.fixture(scope="session")
def two_models(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A retriever over an embedder that lists a second model, ``other``, with other dimensions."""
    folder = tmp_path_factory.mktemp("two-models")
    environment = {
        **peer_settings(stack.access),
        "TRIVIUM_EMBEDDER_MODELS": json.dumps([f"file:{build_encoder(folder / 'other')}"]),
        "TRIVIUM_EMBEDDER_THREADS": "1",
        # Nothing to try out at the start.
        "TRIVIUM_EMBEDDER_PRECISION": "float32",
        "TRIVIUM_EMBEDDER_BATCH_TOKENS": "2048",
    }
    embedder = Process("embedder", folder, environment).start()
    running = Library(stack, folder, embedder.address)
    yield running
    running.close()
    embedder.stop()
