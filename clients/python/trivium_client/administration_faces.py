"""The synchronous twins of `administration`; part of `synchronous`."""

from collections.abc import Iterator, Sequence

from trivium_client import nouns
from trivium_client.asynchronous import AsyncTrivium
from trivium_client.loop import Loop


class Keys:
    """See `trivium_client.administration.Keys`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.keys

    def create(self, *, roles: Sequence[str] = ("member",), display_name: str = "", tenant: str = "") -> nouns.ApiKey:
        """Create a key; its `secret` is shown this once."""
        return self._loop.run(self._inner.create(roles=roles, display_name=display_name, tenant=tenant))

    def list(self, tenant: str = "") -> Iterator[nouns.ApiKey]:
        """The tenant's keys, newest first."""
        return self._loop.iterate(self._inner.list(tenant))

    def revoke(self, key: str) -> nouns.ApiKey:
        """Revoke a key by its id."""
        return self._loop.run(self._inner.revoke(key))


class Tenants:
    """See `trivium_client.administration.Tenants`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.tenants

    def create(self, tenant: str, display_name: str = "") -> str:
        """Create a tenant and return its id."""
        return self._loop.run(self._inner.create(tenant, display_name))

    def list(self) -> Iterator[str]:
        """Every tenant's id."""
        return self._loop.iterate(self._inner.list())
