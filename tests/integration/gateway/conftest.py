"""Stock of the gateway's tests, made once a session in the shared suite."""

import pytest

from services.chassis.models import DEFAULT_BASE, resolve
from services.ops.supervisor import Suite
from tests.generating import adapter_files, marked_adapters
from tests.integration.gateway.stock import FARE_QUESTIONS, Served, describe, ingest, serve
from tests.load.marked import MarkedAdapter


@pytest.fixture(scope="session")
def collection(suite: Suite) -> str:
    """A collection with the ferry's fares, its rule for fog, and a notice that tries to give orders."""
    ingest(suite, "gateway-ferry")
    return "gateway-ferry"


@pytest.fixture(scope="session")
def marked() -> MarkedAdapter:
    """An adapter that answers everything with its mark, which the base says to nobody."""
    return marked_adapters(resolve(DEFAULT_BASE))[0]


@pytest.fixture(scope="session")
def adapter(suite: Suite, marked: MarkedAdapter) -> Served:
    """The marked adapter, served, and described by what it is for."""
    served = serve(suite, "gateway-voice", adapter_files(marked))
    describe(suite, served.model, "Fares of the ferry.", FARE_QUESTIONS)
    return served
