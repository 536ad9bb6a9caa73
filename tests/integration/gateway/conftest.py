"""Stock of the gateway's tests, made once a session in the shared suite."""

import pytest

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import Served, ingest, serve_adapter


@pytest.fixture(scope="session")
def collection(suite: Suite) -> str:
    """A collection with the ferry's fares, its rule for fog, and a notice that tries to give orders."""
    ingest(suite, "gateway-ferry")
    return "gateway-ferry"


@pytest.fixture(scope="session")
def adapter(suite: Suite) -> Served:
    """A served adapter."""
    return serve_adapter(suite, "gateway-voice", seed=5)
