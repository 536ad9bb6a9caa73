"""The durable queue of ingestion: the documents themselves, by state.

Invariant: a document is claimed once at a time; a claim that a kill left behind is
pending again at the next start; tenants take turns, and inside one the oldest is first.
"""

from collections.abc import Collection as AnyOf
from dataclasses import dataclass
from functools import partial

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure
from services.retriever.documents import source_bytes
from services.retriever.documents.media import MediaType
from services.retriever.documents.states import State
from services.retriever.ingestion import holds
from services.retriever.sources import late_failures
from services.retriever.store import CollectionRow, DocumentRow, VersionRow, in_turn

# Of a collection whose documents all wait for one thing so many say so at once; the others do with the next try.
_MOST_TOLD = 500


@dataclass(frozen=True, slots=True)
class Job:
    """One document's newest version to ingest.  ``pinned_digest`` is empty for a collection without vectors."""

    tenant: str
    collection: str
    collection_number: int
    document: str
    document_number: int
    revision: int
    version: str
    text: str
    markdown: bool
    given_title: str
    pinned_digest: str
    # Of a text that was converted (``layout.py``).
    layout: bytes | None = None
    # The bytes wait to be converted; version and text are empty until then.
    unread: bool = False


@dataclass(slots=True)
class Queue:
    """Claims, and what becomes of them."""

    database: Database
    _last_tenant: str = ""

    async def recover(self) -> None:
        """At start: whatever ran when the process died is pending."""
        running = update(DocumentRow).where(DocumentRow.state == State.RUNNING).values(state=State.PENDING)
        await self.database.write(lambda session: session.execute(running))

    async def claim(self, but: AnyOf[int] = ()) -> Job | None:
        """The next job, marked as running; None when nothing waits.  ``but``: numbers of collections to leave alone."""
        while (tenant := await self.database.read(partial(self._next_tenant, but=but))) is not None:
            job = await self.database.write(partial(_claim, tenant=tenant, but=but))
            if job is not None:
                self._last_tenant = tenant
                return job
            # Another worker took the tenant's last one in between.
        return None

    def _next_tenant(self, session: Session, but: AnyOf[int]) -> str | None:
        waiting = select(DocumentRow.tenant).where(DocumentRow.state == State.PENDING)
        if but:
            waiting = waiting.where(DocumentRow.collection_number.not_in(but))
        first = waiting.order_by(DocumentRow.tenant).limit(1)
        return session.scalar(first.where(DocumentRow.tenant > self._last_tenant)) or session.scalar(first)

    async def wants(self, job: Job) -> bool:
        """Whether the job's document is still there, and nothing newer was put."""
        revision = select(DocumentRow.revision).where(DocumentRow.number == job.document_number)
        return await self.database.read(lambda session: session.scalar(revision) == job.revision)

    async def put_back(self, job: Job, reason: str) -> None:
        """The job waits for something; it says for what and keeps its place."""
        await self._settle(job, State.PENDING, reason)

    async def tell(self, tenant: str, collection_number: int, reason: str) -> None:
        """Why the documents of the collection wait, to those that say nothing, or something else."""
        mine = DocumentRow.collection_number == collection_number, DocumentRow.state == State.PENDING
        query = select(DocumentRow).where(*mine, DocumentRow.reason != reason).limit(_MOST_TOLD)

        def change(session: Session) -> None:
            in_turn(session, tenant)
            for row in session.scalars(query):
                row.reason = reason

        await self.database.write(change)

    async def fail(self, job: Job, failure: Failure) -> None:
        """The job cannot be done.  The former version stays searchable."""
        await self._settle(job, State.FAILED, failure.sentence)

    async def _settle(self, job: Job, state: State, reason: str) -> None:
        def change(session: Session) -> None:
            row = still_wanted(session, job)
            if row is not None:
                row.state, row.reason = state, reason
                if not row.source_parts:
                    # The job may be older than its version: conversion gave it one.
                    session.get_one(VersionRow, (row.number, row.newest_version)).state = state
                elif state is State.FAILED:
                    source_bytes.forget(session, row)
                if state is State.FAILED:
                    late_failures.count(session, row)
                holds.settle(session, job.tenant)

        await self.database.write(change)


def _claim(session: Session, tenant: str, but: AnyOf[int]) -> Job | None:
    in_turn(session, tenant)
    oldest = select(DocumentRow).where(DocumentRow.state == State.PENDING, DocumentRow.tenant == tenant)
    if but:
        oldest = oldest.where(DocumentRow.collection_number.not_in(but))
    first = oldest.order_by(DocumentRow.queued_at, DocumentRow.number).limit(1)
    row = session.scalars(first).one_or_none()
    if row is None:
        return None
    row.state = State.RUNNING
    collection = session.get_one(CollectionRow, row.collection_number)
    version = None if row.source_parts else session.get_one(VersionRow, (row.number, row.newest_version))
    if version is not None:
        version.state = State.RUNNING
    return job_of(row, collection, version, pinned_digest=collection.embedding_digest)


def job_of(row: DocumentRow, collection: CollectionRow, version: VersionRow | None, *, pinned_digest: str) -> Job:
    """The job of making this version of the document searchable, by the model with this digest; None: yet to be read."""
    return Job(
        tenant=row.tenant,
        collection=collection.collection,
        collection_number=row.collection_number,
        document=row.document,
        document_number=row.number,
        revision=row.revision,
        version="" if version is None else version.version,
        text="" if version is None else version.text,
        markdown=row.media_type == MediaType.MARKDOWN,
        given_title=row.given_title,
        pinned_digest=pinned_digest,
        layout=None if version is None else version.layout,
        unread=version is None,
    )


def still_wanted(session: Session, job: Job) -> DocumentRow | None:
    """The job's document, unless it was deleted or put again since; nobody changes it before the transaction ends."""
    in_turn(session, job.tenant)
    row = session.get(DocumentRow, job.document_number)
    return row if row is not None and row.revision == job.revision else None
