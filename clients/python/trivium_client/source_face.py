"""The synchronous twin of `sources`; part of `synchronous`."""

from collections.abc import Callable, Iterator
from typing import Any

from trivium_client import nouns
from trivium_client.asynchronous import AsyncTrivium
from trivium_client.loop import Loop


class Sources:
    """See `trivium_client.sources.Sources`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.sources

    def add(self, uri: str, *, collection: str, **options: Any) -> nouns.Source:
        """Have a URL, or all below an S3 prefix, read into a collection."""
        return self._loop.run(self._inner.add(uri, collection=collection, **options))

    def get(self, source: str) -> nouns.Source:
        """One source, with what could not be stored."""
        return self._loop.run(self._inner.get(source))

    def list(self, collection: str) -> Iterator[nouns.Source]:
        """Every source of a collection."""
        return self._loop.iterate(self._inner.list(collection))

    def wait(self, source: str, told: Callable[[nouns.Source], None] | None = None) -> nouns.Source:
        """Wait until a source is no longer under way."""
        return self._loop.run(self._inner.wait(source, told))

    def cancel(self, source: str) -> nouns.Source:
        """Stop reading it."""
        return self._loop.run(self._inner.cancel(source))

    def delete(self, source: str, *, documents: bool = False) -> int:
        """Forget it."""
        return self._loop.run(self._inner.delete(source, documents=documents))
