"""Two tenants in the shared suite that have one of everything, made once a session."""

import asyncio

import pytest

from services.ops.supervisor import Suite
from tests.security.crossing.hoard import Hoard, made


@pytest.fixture(scope="session")
def hoard(suite: Suite) -> Hoard:
    """Who is attacked, who lives beside, and what the first one has."""
    return asyncio.run(made(suite))
