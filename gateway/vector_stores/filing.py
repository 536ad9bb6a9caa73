"""The verbs on files of vector stores, and on files that are put there together.

Invariants: what is acknowledged is durable in the retriever: a call that breaks off in the middle may be repeated whole,
and what it had put there already makes no second document.  No document outlives its file: a file is noted as attached
before it is put anywhere, and looked for again when it has been (``gateway.files.deletion`` is the other side).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.vector_stores.nouns import (
    Attributes,
    Batch,
    FileDraft,
    FileFacts,
    Listing,
    Order,
    Refusal,
    StoredFile,
)
from gateway.vector_stores.peers import Files, Library
from services.chassis.errors import Failure, Reason

_GONE = {Reason.COLLECTION_NOT_FOUND, Reason.DOCUMENT_NOT_FOUND}
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")
# Files of a batch that are carried over at once.
_CONCURRENT_FILES = 4
# Files of a store that are listed at a time.
_PAGE = 100
# What a file itself can be refused for; everything else is about the call.
_ABOUT_THE_FILE = {
    Reason.DOCUMENT_EMPTY,
    Reason.DOCUMENT_NOT_TEXT,
    Reason.DOCUMENT_TOO_LARGE,
    Reason.DOCUMENT_ID_TAKEN,
}


class Filing:
    """Files of vector stores of the caller's tenant."""

    def __init__(self, library: Library, files: Files) -> None:
        self._library = library
        self._files = files

    async def described(self, files: Sequence[str]) -> list[FileFacts]:
        """What the service of files knows of them, in their order.  Raises FILE_NOT_FOUND for the first that is not there."""
        return list(await _each(files, self._files.attach))

    async def put(self, store: str, draft: FileDraft) -> StoredFile:
        """Put a file into the store.  Raises FILE_NOT_FOUND, COLLECTION_NOT_FOUND, and what is wrong with the file."""
        return await self._put(store, draft, await self._files.attach(draft.file))

    async def batch(self, store: str, drafts: Sequence[FileDraft]) -> Batch:
        """Put files into the store as one.  Raises FIELD_INVALID for a file that is named twice, and as :meth:`bring`."""
        named = [draft.file for draft in drafts]
        twice = next((file for at, file in enumerate(named) if file in named[:at]), None)
        if twice is not None:
            raise Failure(Reason.FIELD_INVALID, field="files", problem=f"{twice} is named twice. Name each file once")
        # Also without a file to put there it must be known that the store is.
        await self._library.collection(store)
        return await self.bring(store, drafts, await self.described(named))

    async def bring(self, store: str, drafts: Sequence[FileDraft], facts: Sequence[FileFacts]) -> Batch:
        """Put described files into the store; one that cannot be read is told of by the batch and spoils no other.

        Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED.
        """

        async def carried(pair: tuple[FileDraft, FileFacts]) -> Refusal | None:
            try:
                await self._put(store, *pair)
            except Failure as failure:
                if failure.reason not in _ABOUT_THE_FILE:
                    raise
                return Refusal(pair[0].file, failure.sentence)
            return None

        outcomes = await _each(list(zip(drafts, facts, strict=True)), carried)
        refused = [outcome for outcome in outcomes if outcome is not None]
        without = {refusal.file for refusal in refused}
        stored = [draft.file for draft in drafts if draft.file not in without]
        return await self._library.remember(store, stored, refused)

    async def get(self, store: str, file: str) -> StoredFile:
        """The file of the store.  Raises COLLECTION_NOT_FOUND, DOCUMENT_NOT_FOUND."""
        return await self._library.document(store, file)

    async def page(self, store: str, listing: Listing) -> tuple[list[StoredFile], bool]:
        """A page of files, and whether the list goes on.  Raises as :meth:`get` for an edge that is not there."""
        return await self._library.documents(store, listing)

    async def held(self, store: str, most: int) -> set[str]:
        """The ids of its files; where there are more than ``most``, some more than that.  Raises COLLECTION_NOT_FOUND."""
        held: list[str] = []
        more = True
        while more and len(held) <= most:
            after = held[-1] if held else ""
            page, more = await self._library.documents(store, Listing(_PAGE, Order.OLDEST_FIRST, after))
            held += [it.file for it in page]
        return set(held)

    async def describe(self, store: str, file: str, attributes: Attributes) -> StoredFile:
        """Give it other attributes, all of them.  Raises as :meth:`get`."""
        return await self._library.describe(store, file, attributes)

    async def remove(self, store: str, file: str) -> None:
        """Take it out of the store.  Raises as :meth:`get`."""
        await self._library.remove_document(store, file)

    def text(self, store: str, file: str) -> AsyncIterator[tuple[str, str]]:
        """Its text in pieces, each with its version.  Raises as :meth:`get`, DOCUMENT_VERSION_NOT_FOUND."""
        return self._library.text(store, file)

    async def get_batch(self, store: str, batch: str) -> Batch:
        """The batch.  Raises COLLECTION_NOT_FOUND, DOCUMENT_BATCH_NOT_FOUND."""
        return await self._library.batch(store, batch)

    async def cancel(self, store: str, batch: str) -> Batch:
        """Take out what is not searchable of it.  Raises as :meth:`get_batch`."""
        return await self._library.cancel(store, batch)

    async def batch_page(self, store: str, batch: str, listing: Listing) -> tuple[list[StoredFile], bool]:
        """A page of its files, and whether the list goes on.  Raises as :meth:`get_batch`, DOCUMENT_NOT_FOUND."""
        return await self._library.batch_documents(store, batch, listing)

    async def _put(self, store: str, draft: FileDraft, facts: FileFacts) -> StoredFile:
        stored = await self._library.put(store, draft, facts, self._files.read(draft.file))
        try:
            await self._files.require(draft.file)
        except Failure as failure:
            # Deleted meanwhile, and whoever deleted it may have looked here before it came.
            if failure.reason is Reason.FILE_NOT_FOUND:
                await self._take_out(store, draft.file)
            raise
        return stored

    async def _take_out(self, store: str, file: str) -> None:
        try:
            await self._library.remove_document(store, file)
        except Failure as failure:
            # Or found it, and was faster.
            if failure.reason not in _GONE:
                raise


async def _each(items: Sequence[_Item], work: Callable[[_Item], Awaitable[_Outcome]]) -> list[_Outcome]:
    """What becomes of each, a few at a time; the first failure ends the others and is raised as it is."""
    gate = asyncio.Semaphore(_CONCURRENT_FILES)

    async def one(item: _Item) -> _Outcome:
        async with gate:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except* Failure as failures:
        raised = failures.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise raised
