"""Collections: sets of documents that are searched together, inside a tenant.

Invariant: another tenant's collection and one that does not exist give the same error,
and the names that it suggests are the tenant's own.
"""

import json
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from sqlalchemy import ColumnElement, and_, delete, exists, func, not_, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.chassis.nearest import nearest
from services.retriever import listing
from services.retriever.collection import Change, Collection, Draft, Statistics, apply, packed
from services.retriever.documents.readers import SERVICE, Viewer, readable
from services.retriever.documents.states import State
from services.retriever.generation import Generator, NoGenerator
from services.retriever.ingestion import holds
from services.retriever.listing import Asked, Page
from services.retriever.questions.rows import progress
from services.retriever.reembedding.state import change_of
from services.retriever.search import answerable
from services.retriever.search.settings import SearchSettings
from services.retriever.store import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    FactRow,
    VersionRow,
    in_turn,
)

_MOST_NAMES = 10_000
# What files are called: nobody guesses one.
_FILE = re.compile(r"file-[0-9a-f]{32}")
# What a new collection has none of.
_UNSET_AT_FIRST = ("change", "search_settings", "questions", "former_threshold")


async def _any(model: str) -> None:
    """Takes every name."""


class Collections:
    """The verbs on collections.  ``now`` gives Unix time in seconds.

    ``require_ranker`` raises EMBEDDING_MODEL_NOT_FOUND for a name or digest that reranks nothing for the caller, and
    PEER_UNAVAILABLE where nobody can tell.
    """

    def __init__(
        self,
        database: Database,
        now: Callable[[], float],
        generator: Generator | None = None,
        require_ranker: Callable[[str], Awaitable[None]] = _any,
    ) -> None:
        self._database = database
        self._now = now
        self._generator = generator or NoGenerator()
        self._require_ranker = require_ranker
        # Called when settings may have changed.
        self.updated: Callable[[], None] = lambda: None

    async def create(self, tenant: str, draft: Draft, key: IdempotencyKey) -> Collection:
        """A new collection.  Raises COLLECTION_EXISTS."""

        def effect(session: Session) -> str:
            in_turn(session, tenant)
            if find(session, tenant, draft.collection) is not None:
                raise Failure(Reason.COLLECTION_EXISTS, name=draft.collection, field="collection")
            now = self._now()
            row = CollectionRow(
                tenant=tenant,
                collection=draft.collection,
                description=draft.description,
                title=draft.title,
                metadata_json=packed(draft.metadata),
                expire_after_seconds=draft.expire_after_seconds,
                embedding_digest="",
                vectors_computed=0,
                revision=1,
                created_at=now,
                last_active_at=now,
            )
            session.add(row)
            session.flush()
            new = asdict(shown(session, row))
            return json.dumps({name: value for name, value in new.items() if name not in _UNSET_AT_FIRST})

        answer = await self._database.write(lambda session: once(session, key, lambda: effect(session)))
        return Collection(**json.loads(answer))

    async def get(self, tenant: str, collection: str) -> Collection:
        """The tenant's collection.  Raises COLLECTION_NOT_FOUND."""
        return await self._database.read(lambda session: shown(session, require(session, tenant, collection)))

    async def page(self, tenant: str, asked: Asked, document: str = "", viewer: Viewer = SERVICE) -> Page[Collection]:
        """A page of the collections, of those that hold a document which the viewer may read if one is named.

        Raises COLLECTION_NOT_FOUND for an entry that is not there, FIELD_INVALID.
        """
        rows = select(CollectionRow).where(CollectionRow.tenant == tenant)
        if document:
            held = DocumentRow.collection_number == CollectionRow.number, DocumentRow.document == document
            rows = rows.where(exists().where(*held, readable(viewer)))

        def query(session: Session) -> Page[Collection]:
            def number_of(collection: str) -> int:
                return require(session, tenant, collection).number

            found = listing.page(session, rows, CollectionRow.collection, CollectionRow.number, asked, number_of)
            return Page(tuple(shown(session, row) for row in found.entries), found.next)

        return await self._database.read(query)

    async def hides(self, tenant: str, document: str, viewer: Viewer) -> bool:
        """Whether a collection holds a document with the id of a file which the viewer may not read.

        False for any other id, which could be guessed: there what is hidden looks like what is missing.
        """
        if not _FILE.fullmatch(document):
            return False
        held = DocumentRow.collection_number == CollectionRow.number, DocumentRow.document == document
        hiding = select(CollectionRow.number).where(
            CollectionRow.tenant == tenant, exists().where(*held, not_(readable(viewer)))
        )
        return await self._database.read(lambda session: session.scalar(hiding.limit(1)) is not None)

    async def update(self, tenant: str, collection: str, wanted: Change) -> Collection:
        """Change the collection, which counts as use of it.

        Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED, ETAG_MISMATCH, GENERATOR_NOT_SET for what needs one where there is none, and as
        ``require_ranker`` for what is to rerank from now on.
        """
        if wanted.settings is not None:
            await self._require_parts(tenant, collection, wanted.settings)

        def change(session: Session) -> Collection:
            in_turn(session, tenant)
            row = require(session, tenant, collection)
            if row.expired_at is not None:
                raise Failure(Reason.COLLECTION_EXPIRED, name=collection, field="collection")
            _require_etag(row, wanted.etag)
            apply(row, wanted)
            row.last_active_at = self._now()
            row.revision += 1
            session.flush()
            return shown(session, row)

        changed = await self._database.write(change)
        self.updated()
        return changed

    async def _require_parts(self, tenant: str, collection: str, settings: SearchSettings) -> None:
        """Raise unless what the settings name is there; what the collection reranks by already may have gone since."""
        if settings.generates:
            self._generator.require()
        if settings.rerank_model:
            stored = (await self.get(tenant, collection)).search_settings
            if settings.rerank_model != stored.rerank_model:
                await self._require_ranker(settings.rerank_model)

    async def delete(self, tenant: str, number: int, etag: str = "") -> int:
        """Delete the collection with this number and all that is in it; the documents that it had.  Raises ETAG_MISMATCH."""

        def change(session: Session) -> int:
            in_turn(session, tenant)
            documents = count(session, DocumentRow, DocumentRow.collection_number == number)
            row = session.get(CollectionRow, number)
            if row is not None and row.tenant == tenant:
                _require_etag(row, etag)
                empty(session, tenant, number, row)
            return documents

        return await self._database.write(change)

    async def statistics(self, tenant: str, collection: str, viewer: Viewer) -> Statistics:
        """Counts of what the viewer may read of the collection.  Raises COLLECTION_NOT_FOUND."""

        def query(session: Session) -> Statistics:
            row = require(session, tenant, collection)
            everybodys = DocumentRow.collection_number == row.number
            mine = and_(everybodys, readable(viewer))
            documents = count(session, DocumentRow, mine)
            source_bytes = select(func.coalesce(func.sum(DocumentRow.source_bytes), 0)).where(mine)
            characters = (
                select(func.coalesce(func.sum(VersionRow.characters), 0))
                .join(DocumentRow, DocumentRow.number == VersionRow.document_number)
                .where(mine, DocumentRow.serving_version == VersionRow.version)
            )
            return Statistics(
                documents=documents,
                chunks=count(session, ChunkRow, ChunkRow.document_number.in_(select(DocumentRow.number).where(mine))),
                characters=int(session.scalar(characters) or 0),
                pending=count(session, DocumentRow, mine, DocumentRow.state.in_(State.unfinished())),
                failed=count(session, DocumentRow, mine, DocumentRow.state == State.FAILED),
                source_bytes=int(session.scalar(source_bytes) or 0),
                # Kept for the collection as a whole: it would tell of what is hidden.
                vectors_computed=row.vectors_computed if documents == count(session, DocumentRow, everybodys) else 0,
            )

        return await self._database.read(query)

    async def number(self, tenant: str, collection: str) -> int:
        """The collection's number.  Raises COLLECTION_NOT_FOUND."""
        return await self._database.read(lambda session: require(session, tenant, collection).number)


def empty(session: Session, tenant: str, number: int, row: CollectionRow | None = None) -> None:
    """Delete all documents of the collection with this number, and ``row`` with them: vectors that nobody needs go last."""
    mine = ChunkRow.collection_number == number
    all_documents = select(DocumentRow.number).where(DocumentRow.collection_number == number)
    held = holds.let_go(session, tenant, list(session.scalars(all_documents)))
    digests = digests_of(session, mine)
    session.execute(delete(ChunkRow).where(mine))
    session.execute(delete(DocumentRow).where(DocumentRow.collection_number == number))
    if row is not None:
        session.delete(row)
    session.flush()
    holds.release(session, tenant, digests + held)


def shown(session: Session, row: CollectionRow) -> Collection:
    """The domain's view of a row."""
    return Collection(
        tenant=row.tenant,
        collection=row.collection,
        description=row.description,
        embedding_digest=row.embedding_digest,
        created_at=row.created_at,
        etag=_etag(row),
        index_kind=row.index_kind,
        change=change_of(session, row.number),
        search_settings=SearchSettings.unpacked(row.search_settings_json),
        answerable_threshold=threshold(row),
        former_threshold=row.former_threshold,
        questions=progress(session, row),
        title=row.title,
        metadata=json.loads(row.metadata_json),
        expire_after_seconds=row.expire_after_seconds,
        last_active_at=row.last_active_at,
        expired_at=row.expired_at,
        version=row.version,
    )


def threshold(row: CollectionRow) -> float:
    """From which score on an answer counts as found in the collection."""
    return answerable.THRESHOLD if row.answerable_threshold is None else row.answerable_threshold


def forget_threshold(row: CollectionRow) -> None:
    """Back to the default with another embedding model: a score leans on cosines, which do not compare between two.

    So the threshold goes whether it was fitted or set by hand; what it was is kept to be shown.
    """
    if threshold(row) != answerable.THRESHOLD:
        row.former_threshold = row.answerable_threshold
    row.answerable_threshold = None


def _etag(row: CollectionRow) -> str:
    # With its number: a collection that was deleted and made again is another one.
    return f"{row.number}-{row.revision}"


def _require_etag(row: CollectionRow, etag: str) -> None:
    """Raise ETAG_MISMATCH unless the row is as the etag says; an empty one says nothing."""
    if etag and etag != _etag(row):
        raise Failure(Reason.ETAG_MISMATCH, name=row.collection, etag=_etag(row), field="etag")


def find(session: Session, tenant: str, collection: str) -> CollectionRow | None:
    """The tenant's collection, if there is one."""
    query = select(CollectionRow).where(CollectionRow.tenant == tenant, CollectionRow.collection == collection)
    return session.scalars(query).one_or_none()


def require(session: Session, tenant: str, collection: str) -> CollectionRow:
    """The tenant's collection.  Raises COLLECTION_NOT_FOUND with the nearest of the tenant's own names."""
    row = find(session, tenant, collection)
    if row is None:
        query = select(CollectionRow.collection).where(CollectionRow.tenant == tenant).limit(_MOST_NAMES)
        near = nearest(collection, session.scalars(query))
        raise Failure(Reason.COLLECTION_NOT_FOUND, name=collection, nearest=near, field="collection")
    return row


def count(session: Session, rows: type[DocumentRow] | type[ChunkRow], *conditions: ColumnElement[bool]) -> int:
    """How many rows meet the conditions."""
    query = select(func.count()).select_from(rows).where(*conditions)
    return int(session.scalar(query) or 0)


def digests_of(session: Session, *conditions: ColumnElement[bool]) -> list[bytes]:
    """The content addresses of the chunks that meet the conditions, each once."""
    return list(session.scalars(select(ChunkRow.text_digest).where(*conditions).distinct()))


def page_key(session: Session) -> bytes:
    """The secret that page tokens of this catalog are signed with, made when it is first asked for."""
    row = session.get(FactRow, "page_key")
    if row is None:
        row = FactRow(name="page_key", value=secrets.token_hex(32))
        session.add(row)
    return bytes.fromhex(row.value)


def identity(session: Session) -> str:
    """The id of this catalog, made when it is first asked for: an index built from another one does not fit."""
    row = session.get(FactRow, "catalog_id")
    if row is None:
        row = FactRow(name="catalog_id", value=str(uuid.uuid4()))
        session.add(row)
    return row.value
