"""What a source's URI leads to: a document on the web, or objects of a bucket."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.retriever.sources.buckets import Buckets
from services.retriever.sources.fetching import Fetcher
from services.retriever.sources.reading import Fetched, Gone, Listed, Place, Remembered, Unchanged

_BUCKET = "s3://"


@dataclass(frozen=True, slots=True)
class Places:
    """Opens what the deployment allows."""

    fetcher: Fetcher
    buckets: Buckets

    def require(self, tenant: str, uri: str) -> str:
        """The URI as it is kept.  Touches nothing.  Raises SOURCE_NOT_ALLOWED."""
        if uri.startswith(_BUCKET):
            return self.buckets.require(tenant, uri)
        return self.fetcher.require(uri)

    def opened(self, tenant: str, uri: str) -> Place:
        """The place itself.  Raises SOURCE_NOT_ALLOWED and SOURCE_UNREADABLE."""
        if uri.startswith(_BUCKET):
            return self.buckets.opened(tenant, uri)
        return Page(self.fetcher, self.fetcher.require(uri))


@dataclass(frozen=True, slots=True)
class Page:
    """One document on the web.  Implements ``reading.Place``."""

    fetcher: Fetcher
    uri: str

    async def pages(self) -> AsyncIterator[Sequence[Listed]]:
        """The document alone."""
        yield [Listed(self.uri, None)]

    async def read(self, listed: Listed, known: Remembered | None) -> Fetched | Unchanged | Gone:
        """Ask for it."""
        return await self.fetcher.fetch(listed.uri, known)
