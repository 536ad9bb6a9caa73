"""One edge for the tests of this folder, each with tenants of its own."""

from collections.abc import Iterator

import pytest

from tests.edge import Edge
from tests.harness.gateway import PATIENT, Gateway


@pytest.fixture(scope="package")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Access, a generator without an engine, and whatever gateways the tests start."""
    running = Edge(tmp_path_factory.mktemp("edge"), token_ms=1, prelude=PATIENT)
    yield running
    running.close()


@pytest.fixture(scope="package")
def gateway(edge: Edge) -> Gateway:
    """A gateway of this edge.  Who kills it starts it again; its address may then be another."""
    return edge.gateway()
