"""Stock of the tests with OpenAI's own client, made once a session in the shared suite."""

import pytest

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import Served, ingest, serve_adapter


@pytest.fixture(scope="session")
def collection(suite: Suite) -> str:
    """A collection of the ferry's documents."""
    ingest(suite, "openai-ferry")
    return "openai-ferry"


@pytest.fixture(scope="session")
def adapter(suite: Suite) -> Served:
    """A served adapter."""
    return serve_adapter(suite, "openai-voice", seed=7)
