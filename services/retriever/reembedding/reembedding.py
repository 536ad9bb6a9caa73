"""Another embedding model for a collection: a second set of chunks, vectors and index is made beside the first.

Invariants: the collection is searched by one model at every moment and no vector of another
is ever compared with it; the change is one transaction, made only when every serving version
has its chunks under the new model; what failed or was cancelled leaves the old as it was.
What is done is durable, document by document and batch by batch, so a kill costs one batch.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.retriever.catalog import shown
from services.retriever.collection import Collection
from services.retriever.index.building import Builder, Catalogued
from services.retriever.index.routing import Router
from services.retriever.ingestion.embeddings import Embeddings
from services.retriever.ingestion.ingestion import WAIT_FOR, Ingestion, Tools
from services.retriever.ingestion.publishing import text_digest
from services.retriever.ingestion.queue import Job
from services.retriever.reembedding import rows
from services.retriever.reembedding.rows import Task
from services.retriever.store import CollectionRow

_FIRST_RETRY_SECONDS = 0.2


@dataclass(slots=True)
class Reembedding:
    """The verbs, and one worker over what they ask for."""

    database: Database
    tools: Tools
    ingestion: Ingestion
    builder: Builder
    now: Callable[[], float]
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, tenant: str, collection: str, model: str) -> Collection:
        """Have the collection's vectors computed by another model; the one that it has already ends a change under way.

        Asked again it goes on.  Raises COLLECTION_NOT_FOUND, EMBEDDING_MODEL_NOT_FOUND, PEER_UNAVAILABLE.
        """
        facts = await self.tools.embeddings.find(model)
        now = self.now()
        return await self._changed(partial(rows.begin, tenant=tenant, collection=collection, facts=facts, now=now))

    async def cancel(self, tenant: str, collection: str) -> Collection:
        """End what is under way; the collection stays with its model.  Raises COLLECTION_NOT_FOUND."""
        return await self._changed(partial(rows.cancel, tenant=tenant, collection=collection))

    async def _changed(self, change: Callable[[Session], CollectionRow]) -> Collection:
        def write(session: Session) -> Collection:
            row = change(session)
            session.flush()
            return shown(session, row)

        collection = await self.database.write(write)
        self._woken.set()
        return collection

    async def run(self) -> None:
        """The worker; runs until it is cancelled."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            self._woken.clear()
            tasks = await self.database.read(rows.running)
            done = [await self._work(task) for task in tasks]
            if not tasks:
                await self._woken.wait()
            elif all(done):
                retry_seconds = _FIRST_RETRY_SECONDS
            else:
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(retry_seconds * 2, self.ingestion.pace.retry_seconds)

    async def _work(self, task: Task) -> bool:
        """Bring the task to its end; False when it has to wait for a peer."""
        try:
            async with self.tools.acting_for(task.tenant):
                await self._advance(task)
        except Failure as failure:
            waits = failure.code in WAIT_FOR
            await self.database.write(partial(rows.stumble, task=task, sentence=failure.sentence, waits=waits))
            return not waits
        finally:
            self.tools.changes.tell(task.collection)
        return True

    async def _advance(self, task: Task) -> None:
        embeddings = self.tools.embeddings.of(task.model_digest)
        while True:
            while (job := await self.database.read(partial(rows.next_document, task=task))) is not None:
                if not await self._document(task, job, embeddings):
                    return
                self.tools.changes.tell(task.collection)
            if await self._flip(task):
                return

    async def _document(self, task: Task, job: Job, embeddings: Embeddings) -> bool:
        """Chunks and vectors of one document's serving version, beside; False when nobody wants them any more."""
        facts = await embeddings.facts()
        if facts.digest != task.model_digest:
            # Where it is a tenant's own that is there no more, the embedder says what became of it.
            await self.tools.embeddings.find(task.model_digest)
            raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")
        finished = await self.ingestion.finished(job, facts)
        if finished is None:
            # Something newer came, or it is gone: whoever looks next sees that.
            return True
        texts = {text_digest(chunk.indexed_text): chunk.indexed_text for chunk in finished.chunks}
        unknown = await self.tools.publisher.unknown(job, task.model_digest, texts.keys())
        todo = [digest for digest in texts if digest in unknown]
        for first in range(0, len(todo), self.ingestion.pace.embed_texts):
            batch = todo[first : first + self.ingestion.pace.embed_texts]
            if not await self.database.read(partial(rows.serves, job=job)):
                return True
            vectors = await embeddings.documents([texts[digest] for digest in batch])
            if vectors.digest != task.model_digest:
                raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")
            found = dict(zip(batch, vectors.packed, strict=True))
            if not await self.database.write(partial(rows.keep, task=task, job=job, vectors=found)):
                return False
        return await self.database.write(partial(rows.store, task=task, job=job, finished=finished))

    async def _flip(self, task: Task) -> bool:
        """Build and verify the new index, then change the collection over; False when documents came meanwhile."""
        router: Router = self.tools.index
        place = await self.database.write(partial(rows.place, task=task, default=router.default))
        if place is None:
            return True
        expected = Catalogued(
            partial(self.database.read_now, partial(rows.chunks, task=task)),
            lambda some: self.database.read_now(partial(rows.entries, task=task, chunks=some)),
        )
        with router.building(place):
            prepared = await self.builder.prepare(place, expected)
            async with self.tools.gates.change(task.collection):
                if await self.database.read(partial(rows.next_document, task=task)) is not None:
                    return False
                await self.builder.finish(place, expected, prepared)
                if not await self.database.write(partial(rows.flip, task=task, place=place)):
                    return False
                former = router.place(task.collection)
                router.move(place)
        await self.builder.drop(former)
        return True
