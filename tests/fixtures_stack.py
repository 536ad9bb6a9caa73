"""The fixture that starts access and the registry once for all tests that only use them."""

from collections.abc import Iterator

import pytest

from tests.stack import Stack, User
from tests.token_issuer import TokenIssuer


@pytest.fixture(scope="session")
def issuer() -> TokenIssuer:
    """Whose OIDC tokens the session's access takes beside keys."""
    return TokenIssuer("https://issuer.test")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, issuer: TokenIssuer) -> Iterator[Stack]:
    """Access and a registry that serve the whole session; each test takes tenants of its own."""
    running = Stack(tmp_path_factory.mktemp("stack"), issuer=issuer)
    yield running
    running.close()


@pytest.fixture
def user(stack: Stack) -> User:
    """A user of the registry in a new tenant."""
    return stack.newcomer()
