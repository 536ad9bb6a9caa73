"""The gateway over a retriever and a service of files, with no engine behind it, and with one that says anything."""

from collections.abc import Iterator

import pytest

from tests.filing import Filing
from tests.front import Front, Visitor
from tests.library import Library
from tests.simulated_generator import running
from tests.stack import Stack


@pytest.fixture(scope="session")
def front(stack: Stack, library: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A gateway that serves the whole session; each test takes tenants of its own."""
    folder = tmp_path_factory.mktemp("front")
    filing = Filing(folder, stack)
    running = Front(folder, stack, library, filing)
    yield running
    running.close()
    filing.close()


@pytest.fixture(scope="session")
def answering(stack: Stack, library: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The same over a generator that says as many words as it may, whatever it is asked."""
    folder = tmp_path_factory.mktemp("answering")
    filing = Filing(folder, stack)
    with running() as generator:
        front = Front(folder, stack, library, filing, generator)
        yield front
        front.close()
    filing.close()


@pytest.fixture
def visitor(front: Front) -> Visitor:
    """Somebody in a new tenant."""
    return front.newcomer()
