"""A new store: with its files or not at all, and once for each request.

Invariants: a store whose creation did not end is not there, whether something failed or its caller left, unless the
retriever says nothing either when it is asked once more, or a repeat has found it; no run of a request takes away what it
did not make itself, nor what another one has found, in whatever process; and one that repeats another finds either all of
it or nothing but what it goes on from.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from gateway.vector_stores.filing import Filing
from gateway.vector_stores.nouns import Collection, FileDraft, FileFacts, Store, StoreDraft
from gateway.vector_stores.peers import Library
from services.chassis.context import current_or_none, serving
from services.chassis.errors import Code, Failure, Reason

DAY_SECONDS = 86_400
_PREFIX = "vs_"
# What was there when it was to be created, and another when it was looked at, is looked for again so often.
_MOST_RUNS = 5
# With these what was found is not what is there any more.
_PASSED = {Reason.COLLECTION_NOT_FOUND, Reason.ETAG_MISMATCH}
# In which a store is taken back whose caller has no time left.
_REMOVAL_SECONDS = 10.0
# With these the retriever may have made it all the same, or still make it.
_OPEN = {Code.CANCELLED, Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE}


class Creation:
    """Makes stores of the caller's tenant.  ``new_id`` draws a UUID."""

    def __init__(self, library: Library, filing: Filing, new_id: Callable[[], str]) -> None:
        self._library = library
        self._filing = filing
        self._new_id = new_id
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def store(self, draft: StoreDraft, request_id: str = "") -> Store:
        """A new store with the files of the draft, or the one that the same request has made before.

        Raises FILE_NOT_FOUND before anything is created, and REQUEST_ID_REUSED where what is there is not what is asked for.
        """
        facts = await self._filing.described(draft.files)
        name = _PREFIX + (request_id or self._new_id()).replace("-", "").lower()
        # A run whose caller left has taken back what it made before another one looks.
        async with self._turn(name):
            return await self._made_or_found(name, draft, facts, request_id, _MOST_RUNS)

    def _turn(self, name: str) -> asyncio.Lock:
        caller = current_or_none()
        return self._turns.setdefault(("" if caller is None else caller.tenant_id, name), asyncio.Lock())

    async def _made_or_found(
        self, name: str, draft: StoreDraft, facts: Sequence[FileFacts], request_id: str, runs: int
    ) -> Store:
        try:
            return await self._made(name, draft, facts)
        except Failure as failure:
            if failure.reason is not Reason.COLLECTION_EXISTS:
                raise
        try:
            return await self._found(name, draft, facts, request_id)
        except Failure as passed:
            # Taken back since by a run in another process, or found by one.
            if passed.reason not in _PASSED or runs == 1:
                raise
        return await self._made_or_found(name, draft, facts, request_id, runs - 1)

    async def _made(self, name: str, draft: StoreDraft, facts: Sequence[FileFacts]) -> Store:
        """The store; one that did not get its files is none.  Raises COLLECTION_EXISTS."""
        create = partial(
            self._library.create,
            name,
            draft.name,
            draft.description,
            draft.metadata,
            draft.expire_after_days * DAY_SECONDS,
            self._new_id(),
        )
        creating = asyncio.ensure_future(create())
        try:
            # Whoever leaves meanwhile would leave behind a store of which nobody knows whether it is there.
            made = await asyncio.shield(creating)
            if facts:
                await self._filing.bring(name, [FileDraft(it.file) for it in facts], facts)
            return await counted(self._library, made)
        except (Failure, asyncio.CancelledError):
            await _to_the_end(self._taken_back(name, creating, create))
            raise

    async def _taken_back(
        self, name: str, creating: "asyncio.Future[Collection]", create: Callable[[], Awaitable[Collection]]
    ) -> None:
        """Delete what was created, if it was."""
        await asyncio.wait([creating])
        if creating.cancelled():
            return
        with _in_time_of_its_own(), suppress(Failure):
            failed = creating.exception()
            if failed is not None:
                if not (isinstance(failed, Failure) and failed.code in _OPEN):
                    return
                # Whether it is there is known once this has ended: under one id it is made once, then or now.
                made = await create()
            else:
                made = creating.result()
            # Who has found it meanwhile has kept it, and may have answered with it.
            await self._library.remove(name, made.etag)

    async def _found(self, name: str, draft: StoreDraft, facts: Sequence[FileFacts], request_id: str) -> Store:
        """The store that is there, with what it lacks of the files.

        Raises COLLECTION_NOT_FOUND, ETAG_MISMATCH for one that is another since it was looked at, REQUEST_ID_REUSED.
        """
        there = await self._library.collection(name)
        named = {it.file for it in facts}
        held = await self._filing.held(name, len(named))
        wanted = (draft.name, draft.description, dict(draft.metadata), draft.expire_after_days * DAY_SECONDS)
        about = (there.title, there.description, dict(there.metadata), there.expire_after_seconds)
        if wanted != about or not held <= named:
            raise Failure(Reason.REQUEST_ID_REUSED, request_id=request_id, field="request_id")
        if not there.expired:
            # From here on whoever made it does not take it back.
            await self._library.keep(name, there.etag)
        lacking = [it for it in facts if it.file not in held]
        if lacking:
            await self._filing.bring(name, [FileDraft(it.file) for it in lacking], lacking)
        return await counted(self._library, there)


async def counted(library: Library, collection: Collection) -> Store:
    """The collection with what it holds.  Raises COLLECTION_NOT_FOUND."""
    return Store(collection, await library.holdings(collection.collection))


def _in_time_of_its_own() -> AbstractContextManager[object]:
    """The current call, with time left also where its deadline is what ended it."""
    call = current_or_none()
    if call is None:
        return nullcontext()
    return serving(replace(call, deadline_seconds=time.monotonic() + _REMOVAL_SECONDS))


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end also when the caller is cancelled; the cancellation then comes after it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
