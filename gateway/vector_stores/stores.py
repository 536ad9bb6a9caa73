"""The verbs on vector stores.

Invariant: a store is its collection and nothing beside it: no state is kept here, and what somebody does to the
collection elsewhere shows at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from gateway.vector_stores.creating import DAY_SECONDS, Creation, counted
from gateway.vector_stores.filing import Filing
from gateway.vector_stores.nouns import Collection, Found, Listing, Query, Store, StoreChange, StoreDraft
from gateway.vector_stores.peers import Library
from services.chassis.errors import Failure, Reason

# Stores of a page are counted side by side, but not so many at once that the retriever feels a listing.
_CONCURRENT_COUNTS = 16


class Stores:
    """Vector stores of the caller's tenant.  ``new_id`` draws a UUID."""

    def __init__(self, library: Library, filing: Filing, new_id: Callable[[], str]) -> None:
        self._library = library
        self._creation = Creation(library, filing, new_id)

    async def create(self, draft: StoreDraft, request_id: str = "") -> Store:
        """A new store with the files of the draft, once for each request.  Raises FILE_NOT_FOUND, REQUEST_ID_REUSED."""
        return await self._creation.store(draft, request_id)

    async def get(self, store: str) -> Store:
        """The store.  Raises COLLECTION_NOT_FOUND."""
        return await counted(self._library, await self._library.collection(store))

    async def page(self, listing: Listing) -> tuple[list[Store], bool]:
        """A page of stores, and whether the list goes on.  Raises COLLECTION_NOT_FOUND for an edge that is not there."""
        collections, more = await self._library.collections(listing)
        gate = asyncio.Semaphore(_CONCURRENT_COUNTS)

        async def listed(collection: Collection) -> Store | None:
            async with gate:
                try:
                    return await counted(self._library, collection)
                except Failure as failure:
                    # Deleted since it was listed.
                    if failure.reason is not Reason.COLLECTION_NOT_FOUND:
                        raise
                    return None

        found = await asyncio.gather(*map(listed, collections))
        return [store for store in found if store is not None], more

    async def change(self, store: str, change: StoreChange) -> Store:
        """Change it.  Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED."""
        days = change.expire_after_days
        seconds = None if days is None else days * DAY_SECONDS
        changed = await self._library.change(store, change.name, change.description, change.metadata, seconds)
        return await counted(self._library, changed)

    async def remove(self, store: str) -> None:
        """Delete it with all that is in it.  Raises COLLECTION_NOT_FOUND."""
        await self._library.remove(store)

    async def search(self, store: str, query: Query) -> Found:
        """Passages.  Raises FIELD_INVALID for a threshold beside several queries, and what the retriever refuses with."""
        if query.score_threshold and len(query.texts) > 1:
            problem = "of several queries ranks are fused, and no score is left to compare; ask one, or leave it out"
            raise Failure(Reason.FIELD_INVALID, field="ranking_options.score_threshold", problem=problem)
        found = await self._library.search(store, query)
        least = query.score_threshold
        return replace(found, hits=tuple(hit for hit in found.hits if hit.score >= least)) if least else found


def days_of(seconds: int) -> int:
    """Whole days that hold these seconds."""
    return -(-seconds // DAY_SECONDS)
