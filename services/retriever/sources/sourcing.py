"""Reads sources in the background, each object through the same intake as a put.

Invariant: what one object fails with ends neither the others nor the service; nothing is deleted unless the whole
source was listed; a source that is stopped writes nothing more.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from services.chassis.errors import Code, Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.retriever.documents.intake import Draft, Intake
from services.retriever.documents.removal import Removal
from services.retriever.sources.objects import Known, NotWanted, Outcome, SourceObjects
from services.retriever.sources.places import Places
from services.retriever.sources.queue import SourceQueue, Work
from services.retriever.sources.reading import Fetched, Gone, Listed, Place, Remembered, Unchanged

# Objects of one source that are fetched at once, and the memory that these together may take.
_MOST_AT_ONCE = 4
_MOST_BYTES_AT_ONCE = 64 * 1024 * 1024
_OBJECT_TRIES = 3
_LATER = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED)
_MOST_ID = 512
# An interval timer never sleeps longer, in case the clock was set.
_LONGEST_SLEEP_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class SourceTools:
    """What reading works with.  ``report`` writes down how a reading ended, and an error that nobody foresaw."""

    queue: SourceQueue
    objects: SourceObjects
    places: Places
    intake: Intake
    removal: Removal
    retry_seconds: float
    report: Callable[[str, Work, Exception | None], None]


@dataclass(slots=True)
class Sourcing:
    """Readers over the queue.  :meth:`wake` after every change of it."""

    tools: SourceTools
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _running: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def wake(self) -> None:
        """Something may be due."""
        self._woken.set()

    def stop(self, number: int) -> None:
        """End the reading of the source with this number, if there is one."""
        task = self._running.get(number)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """One reader; runs until it is cancelled."""
        while True:
            self._woken.clear()
            work = await self.tools.queue.claim()
            if work is not None:
                await self._begun(work)
                # The tenant's next one may have waited for this one.
                self._woken.set()
                continue
            seconds = await self.tools.queue.seconds_until_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_SLEEP_SECONDS if seconds is None else seconds + 0.01):
                    await self._woken.wait()

    async def _begun(self, work: Work) -> None:
        """Read in a task of its own, so that it can be ended alone."""
        task = asyncio.create_task(self._settled(work))
        self._running[work.number] = task
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            # What it writes to is closed after us.
            await asyncio.gather(task, return_exceptions=True)
            del self._running[work.number]

    async def _settled(self, work: Work) -> None:
        tools = self.tools
        try:
            if not work.deleting:
                await self._read(work)
            if work.prune:
                await self._prune(work)
        except NotWanted:
            return
        except Failure as failure:
            tools.report("source_failed", work, failure)
            await tools.queue.fail(work, failure)
        except Exception as error:  # noqa: BLE001, what a stranger's server answers must not end this one
            tools.report("source_broke", work, error)
            await tools.queue.fail(work, Failure(Reason.INTERNAL, correlation_id=f"source {work.number}"))
        else:
            tools.report("source_read", work, None)
            await tools.queue.finish(work)

    async def _read(self, work: Work) -> None:
        place = self.tools.places.opened(work.tenant, work.uri)
        async for page in place.pages():
            if page:
                await self._page(work, place, page)

    async def _page(self, work: Work, place: Place, page: Sequence[Listed]) -> None:
        known = await self.tools.objects.known(work, [listed.uri for listed in page])
        same = [known[listed.uri] for listed in page if _same(listed, known.get(listed.uri))]
        if same:
            await self.tools.objects.seen(work, same)
        unchanged = {item.uri for item in same}
        waiting = iter([listed for listed in page if listed.uri not in unchanged])

        async def reader() -> None:
            for listed in waiting:
                await self._object(work, place, listed, known.get(listed.uri))

        try:
            async with asyncio.TaskGroup() as readers:
                for _ in range(min(self._at_once, len(page))):
                    readers.create_task(reader())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    @property
    def _at_once(self) -> int:
        return max(1, min(_MOST_AT_ONCE, _MOST_BYTES_AT_ONCE // self.tools.intake.limit_bytes))

    async def _object(self, work: Work, place: Place, listed: Listed, known: Known | None) -> None:
        """One object that may have changed, patiently; what it fails with is recorded."""
        for tried in range(1, _OBJECT_TRIES + 1):
            try:
                await self._once(work, place, listed, known)
                return
            except Failure as failure:
                if failure.reason is Reason.COLLECTION_NOT_FOUND:
                    raise NotWanted from failure
                if failure.code not in _LATER:
                    seen = listed.remembered or Remembered()
                    await self.tools.objects.record(work, Outcome(listed.uri, seen, problem=failure.sentence))
                    return
                if tried == _OBJECT_TRIES:
                    # As if nothing were remembered: the next reading tries again.
                    await self.tools.objects.record(work, Outcome(listed.uri, Remembered(), problem=failure.sentence))
                    return
            await asyncio.sleep(self.tools.retry_seconds * 2 ** (tried - 1))

    async def _once(self, work: Work, place: Place, listed: Listed, known: Known | None) -> None:
        if len(listed.uri) > _MOST_ID:
            problem = f"its URI has more than {_MOST_ID} characters, the most of a document's id"
            await self.tools.objects.record(work, Outcome(listed.uri, Remembered(), problem=problem))
            return
        settled = known is not None and known.settled
        answer = await place.read(listed, known.remembered if known is not None and settled else None)
        if isinstance(answer, Unchanged) and known is not None:
            await self.tools.objects.seen(work, [known])
        elif isinstance(answer, Fetched):
            await self._fetched(work, listed, answer)
        elif isinstance(answer, Gone) and not (work.prune and known is not None):
            await self.tools.objects.record(work, Outcome(listed.uri, Remembered(), problem=answer.problem))

    async def _fetched(self, work: Work, listed: Listed, fetched: Fetched) -> None:
        tools = self.tools
        sha256 = hashlib.sha256(fetched.content).hexdigest()
        outcome = Outcome(listed.uri, fetched.remembered, sha256, fetched_bytes=len(fetched.content))
        draft = Draft(work.collection, listed.uri, "", fetched.media_type, {}, {}, work.readers, work.viewer)
        key = IdempotencyKey(work.tenant, "source", "", b"")
        try:
            stored = await tools.intake.put(work.tenant, draft, fetched.content, key)
        except Failure as failure:
            if failure.code in _LATER or failure.reason is Reason.COLLECTION_NOT_FOUND:
                raise
            await tools.objects.record(work, replace(outcome, sha256="", problem=failure.sentence))
            return
        await tools.objects.record(work, replace(outcome, same=not stored.new_version))

    async def _prune(self, work: Work) -> None:
        """Delete the documents of objects that were not met; one that somebody put over it stays."""
        tools = self.tools
        while gone := await tools.objects.unseen(work):
            for known in gone:
                if known.intact:
                    await self._removed(work, known)
                await tools.objects.forget(work, known)

    async def _removed(self, work: Work, known: Known) -> None:
        try:
            await self.tools.removal.document(work.tenant, work.collection, known.uri, work.viewer)
        except Failure as failure:
            if failure.reason is not Reason.DOCUMENT_NOT_FOUND:
                raise


def _same(listed: Listed, known: Known | None) -> bool:
    """Whether the listing alone says that an object needs nothing."""
    told = listed.remembered
    return told is not None and bool(told.etag) and known is not None and known.settled and known.remembered == told
