"""Fixtures of more than one folder; a folder's own stand in its own conftest."""

import os
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.fixtures_library import embedder_address, library, own_encoders, reader
from tests.fixtures_stack import issuer, stack, user
from tests.fixtures_suite import suite
from tests.postgres import postgres, postgres_url
from tests.s3 import bucket, s3
from tests.stack import logs_of_missed
from tests.weaviate import weaviate

__all__ = [
    "bucket",
    "embedder_address",
    "issuer",
    "library",
    "own_encoders",
    "postgres",
    "postgres_url",
    "reader",
    "s3",
    "stack",
    "suite",
    "user",
    "weaviate",
]

# Examples are tried for what they show, not for how fast: beside a busy neighbour each may take seconds.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# A shell starts a background job with SIGINT ignored, and every process that a test starts and interrupts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure the log of each service that ended meanwhile: its callers only see that it is away."""
    report = yield
    if report.failed:
        report.sections.extend(logs_of_missed())
    return report


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """Restore the environment after each file: what runs in a lane later starts services that inherit it.

    An engine in the process of the tests sets vLLM's variables, which keep every library off the network.
    """
    before = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    yield
    for name in os.environ.keys() - before.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    os.environ.update(before)
