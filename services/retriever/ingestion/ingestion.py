"""From a durable document to a searchable version.

Invariants: only text that has no vector yet is embedded, and once where several documents
bring it; what was computed survives a kill; an absent embedder, or the absence of the model
that the collection has, makes documents wait, and say so, and never fails them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.chassis.errors import Code, Failure, Reason
from services.retriever.changes import Changes
from services.retriever.documents.layout import Layout, unpacked
from services.retriever.index.gates import Gates
from services.retriever.index.routing import Router
from services.retriever.ingestion.aside import Aside
from services.retriever.ingestion.conversion import Conversions
from services.retriever.ingestion.embeddings import Embeddings, EncoderFacts
from services.retriever.ingestion.flights import Flights
from services.retriever.ingestion.parsing import Parser
from services.retriever.ingestion.publishing import Finished, Publisher, VectorsMissing, text_digest
from services.retriever.ingestion.queue import Job, Queue
from services.retriever.text.blocks import Outline
from services.retriever.text.chunking import Budget, Chunk, Measured, chunked, refined, texts_to_measure
from services.retriever.text.languages import Languages

T = TypeVar("T")
ActingFor = Callable[[str], AbstractAsyncContextManager[object]]
# Failures of peers, as the domain sees them; raised by what ``acting_for`` and ``Embeddings`` do.
WAIT_FOR = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNAUTHENTICATED, Code.RESOURCE_EXHAUSTED}
# What is said where the model of a collection that has one is not to be had: deleted, served no longer, or damaged.
_WITHOUT_MODEL = {
    Reason.EMBEDDING_MODEL_CHANGED, Reason.EMBEDDING_MODEL_NOT_FOUND, Reason.MODEL_SOURCE_INVALID,
    Reason.EMBEDDING_ENGINE_MISSING,
}  # fmt: skip
_FIRST_RETRY_SECONDS = 0.2
# A model comes back by somebody's hand, and a collection has its own: looked for more rarely than an embedder.
_RARER = 4
# [CLS] and [SEP].
_SPECIAL_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Tools:
    """What ingestion works with.  ``blocking(function, *arguments)`` runs in a thread."""

    queue: Queue
    conversions: Conversions
    publisher: Publisher
    parser: Parser
    embeddings: Embeddings
    index: Router
    gates: Gates
    changes: Changes
    acting_for: ActingFor
    blocking: Callable[..., Awaitable[None]]
    report: Callable[[str, Job, Failure | None], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens of a chunk, texts of one request, and the longest wait between tries."""

    max_chunk_tokens: int
    embed_texts: int
    retry_seconds: float


@dataclass(slots=True)
class Ingestion:
    """Workers over the queue.  :meth:`wake` after every put."""

    tools: Tools
    pace: Pace
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _languages: Languages = field(default_factory=Languages)
    _flights: Flights = field(default_factory=Flights)
    _aside: Aside = field(init=False)

    def __post_init__(self) -> None:
        self._aside = Aside(self.pace.retry_seconds * _RARER, self.wake)

    def wake(self) -> None:
        """Something may wait."""
        self._woken.set()

    async def run(self) -> None:
        """One worker; runs until it is cancelled."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            self._woken.clear()
            job = await self.tools.queue.claim(self._aside.collections)
            if job is None:
                await self._woken.wait()
            elif await self._work(job):
                retry_seconds = _FIRST_RETRY_SECONDS
            else:
                # Not the event: puts keep coming, and each would only find the embedder absent again.
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(retry_seconds * 2, self.pace.retry_seconds)

    async def _work(self, job: Job) -> bool:
        """Do the job and settle it; False when it has to wait for a peer."""
        tools = self.tools
        tools.changes.tell(job.collection_number)
        try:
            async with tools.acting_for(job.tenant):
                await self._ingest(job)
        except Failure as failure:
            return await self._stumbled(job, failure)
        finally:
            tools.changes.tell(job.collection_number)
        return True

    async def _stumbled(self, job: Job, failure: Failure) -> bool:
        """Settle a job that came to nothing; False when it has to wait for a peer."""
        queue, waits = self.tools.queue, f"Waits: {failure.sentence}"
        here = failure.code not in WAIT_FOR
        alone = here and bool(job.pinned_digest) and failure.reason in _WITHOUT_MODEL and not _outdated(job, failure)
        self.tools.report("document_failed" if here and not alone else "document_waits", job, failure)
        if not here:
            await queue.put_back(job, waits)
        elif _outdated(job, failure):
            await queue.put_back(job, "")
        elif alone:
            self._aside.put(job.collection_number)
            await queue.put_back(job, waits)
            await queue.tell(job.tenant, job.collection_number, waits)
        else:
            await queue.fail(job, failure)
        return here

    async def _ingest(self, claimed: Job) -> None:
        job = await self._read(claimed) if claimed.unread else claimed
        if job is None:
            return
        finished = await self.finished(job, await self._encoder(job))
        if finished is None:
            return
        by_digest = {text_digest(chunk.indexed_text): chunk.indexed_text for chunk in finished.chunks}
        while await self._embed(job, finished.model_digest, by_digest):
            with suppress(VectorsMissing):
                await self._publish(job, finished)
                return

    async def _encoder(self, job: Job) -> EncoderFacts:
        """The model that the job is for.  Raises EMBEDDING_MODEL_CHANGED where it is not there, and PEER_UNAVAILABLE."""
        facts = await self.tools.embeddings.of(job.pinned_digest).facts()
        pinned = job.pinned_digest
        if pinned not in ("", facts.digest):
            serving = facts.digest
            raise Failure(Reason.EMBEDDING_MODEL_CHANGED, name=job.collection, pinned=pinned, serving=serving)
        self._aside.served(job.collection_number)
        return facts

    async def finished(self, job: Job, facts: EncoderFacts) -> Finished | None:
        """The chunks of a job under the model that it is for, whose vectors are yet to come; None when it is not wanted.

        Raises PEER_UNAVAILABLE.
        """
        embeddings = self.tools.embeddings.of(job.pinned_digest)
        budget = Budget.within(facts.max_tokens, self.pace.max_chunk_tokens, _SPECIAL_TOKENS)
        layout = await self._layout(job)
        if layout is None:
            return None
        title, chunks = await self._split(job, layout.outline, budget)
        amiss = await self._languages.notice(job.text, facts.digest, embeddings)
        notices = " ".join(filter(None, [layout.notice, amiss]))
        return Finished(title or job.document, tuple(chunks), facts.digest, layout.pages, notices)

    async def _read(self, job: Job) -> Job | None:
        """Convert the document's bytes to its newest version; None when the job is no longer wanted."""
        raw = await self.tools.conversions.source(job)
        if raw is None:
            return None
        converted = await self._while_wanted(job, self.tools.parser.convert(job.document, raw))
        return None if converted is None else await self.tools.conversions.store(job, converted)

    async def _layout(self, job: Job) -> Layout | None:
        """The blocks of the job's text; None when it is no longer wanted."""
        if job.layout is not None:
            return await asyncio.to_thread(unpacked, job.layout)
        parsing = self.tools.parser.outline(job.document, job.text, markdown=job.markdown)
        outline = await self._while_wanted(job, parsing)
        return None if outline is None else Layout(outline, (), "")

    async def _while_wanted(self, job: Job, work: Coroutine[Any, Any, T]) -> T | None:
        """What the work gives; it is stopped, for None, as soon as a newer put or a deletion makes it useless."""
        working = asyncio.ensure_future(work)
        try:
            while True:
                changed = asyncio.ensure_future(self.tools.changes.next(job.collection_number).wait())
                if not working.done() and await self.tools.queue.wants(job):
                    await asyncio.wait({working, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if working.done():
                    return await working
                if not await self.tools.queue.wants(job):
                    return None
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _split(self, job: Job, outline: Outline, budget: Budget) -> tuple[str, list[Chunk]]:
        """The title and the chunks under it.

        A document without a title has none in its chunks either: its id there would say
        little and have the whole document embedded anew under another id.
        """
        title = job.given_title or outline.title
        measured = Measured()
        # In threads: a long document has a hundred thousand units, and the loop answers searches meanwhile.
        while True:
            await self._measure(job, measured, await asyncio.to_thread(texts_to_measure, job.text, outline, title))
            finer = await asyncio.to_thread(refined, job.text, outline, measured, budget)
            if finer is outline:
                return title, await asyncio.to_thread(chunked, job.text, outline, title, measured, budget)
            outline = finer

    async def _measure(self, job: Job, measured: Measured, texts: list[str]) -> None:
        missing = measured.missing(texts)
        if missing:
            counts = await self.tools.embeddings.of(job.pinned_digest).count(missing)
            measured.tokens.update(zip(missing, counts, strict=True))

    async def _embed(self, job: Job, model_digest: str, by_digest: Mapping[bytes, str]) -> bool:
        """Give every text a vector; False when the job is no longer wanted."""
        flights, publisher = self._flights, self.tools.publisher
        unknown = await publisher.unknown(job, model_digest, by_digest.keys())
        todo = dict.fromkeys(digest for digest in by_digest if digest in unknown)
        while todo:
            with flights.taken(job.tenant, model_digest, todo, self.pace.embed_texts) as mine:
                # Somebody may have landed between our look and our take.
                unknown = await publisher.unknown(job, model_digest, mine)
                batch = {digest: by_digest[digest] for digest in mine if digest in unknown}
                # A deletion that makes the job useless also takes vectors that it counted on.  It is seen here, for the
                # look at the vectors came first.
                if batch and not (await self.tools.queue.wants(job) and await self._compute(job, model_digest, batch)):
                    return False
            if mine:
                todo = dict.fromkeys(digest for digest in todo if digest not in set(mine))
                continue
            # All that is left is with others.  What they do not bring is ours to do.
            await flights.landed(job.tenant, model_digest, next(iter(todo)))
            unknown = await publisher.unknown(job, model_digest, todo)
            todo = dict.fromkeys(digest for digest in todo if digest in unknown)
        return True

    async def _compute(self, job: Job, model_digest: str, batch: Mapping[bytes, str]) -> bool:
        """Vectors of these texts into the catalog; False when the job is no longer wanted."""
        vectors = await self.tools.embeddings.of(job.pinned_digest).documents(list(batch.values()))
        if vectors.digest != model_digest:
            # The embedder was restarted with another model since we asked: begin again with that one.
            raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")
        found = dict(zip(batch, vectors.packed, strict=True))
        wanted = await self.tools.publisher.keep(job, vectors.digest, found)
        self.tools.changes.tell(job.collection_number)
        return wanted

    async def _publish(self, job: Job, finished: Finished) -> None:
        """Catalog first, then the index, with searches kept out in between; a kill there is mended at the start."""
        tools = self.tools
        async with tools.gates.change(job.collection_number):
            await tools.blocking(tools.index.require, job.collection_number)
            swap = await tools.publisher.publish(job, finished)
            if swap is None:
                return
            await tools.blocking(tools.index.replace, job.collection_number, swap.add, swap.remove)
        tools.report("document_ready", job, None)


def _outdated(job: Job, failure: Failure) -> bool:
    """Whether the collection got its model, or another one, while the job ran: then it begins again under that."""
    changed = failure.reason is Reason.EMBEDDING_MODEL_CHANGED
    return changed and failure.variables.get("pinned") != job.pinned_digest
