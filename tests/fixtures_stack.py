"""The fixture that starts access and the registry once for all tests that only use them."""

from collections.abc import Iterator

import pytest

from tests.stack import Stack, User


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Access and a registry that serve the whole session; each test takes tenants of its own."""
    running = Stack(tmp_path_factory.mktemp("stack"))
    yield running
    running.close()


@pytest.fixture
def user(stack: Stack) -> User:
    """A user of the registry in a new tenant."""
    return stack.newcomer()
