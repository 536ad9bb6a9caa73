"""Documents and their immutable versions.

Invariants: a document that was acknowledged is durable and in the queue; a version's
text never changes and stays until the document is deleted, so a citation keeps
resolving; what is deleted is in no list any more when the deletion is acknowledged.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.retriever import catalog, listing
from services.retriever.documents import storing
from services.retriever.documents.attributes import Attributes
from services.retriever.documents.readers import SERVICE, Viewer, may_read, readable
from services.retriever.documents.states import State
from services.retriever.documents.storing import Put
from services.retriever.expiry import require_live
from services.retriever.ingestion import holds
from services.retriever.listing import Asked, Page
from services.retriever.store import ChunkRow, DocumentRow, VersionRow, in_turn
from services.retriever.summaries import nodes
from services.retriever.text.texts import NormalisedText, UnreadSource

# Most bytes of text that one answer carries.
_MOST_TEXT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is shown; counts of chunks as its contract says.  ``updated_at`` is Unix time in seconds."""

    collection: str
    document: str
    title: str
    serving_version: str
    newest_version: str
    state: str
    reason: str
    media_type: str
    metadata: Mapping[str, str]
    updated_at: float
    chunks: int
    chunks_embedded: int
    chunks_reused: int
    source_sha256: str = ""
    notice: str = ""
    readers: tuple[str, ...] = ()
    # As ``attributes.encoded`` writes it.
    attributes_json: str = "{}"
    # That which was named for the bytes; empty where nobody named one.
    charset: str = ""
    # Of its newest version as it came.
    source_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """The document, and whether its newest version is another one than before."""

    document: Document
    new_version: bool


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable version as it is shown."""

    version: str
    characters: int
    source_sha256: str
    created_at: float
    state: str
    sequence: int
    pages: int


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Characters of a version, and how many it has in all."""

    text: str
    version: str
    characters: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What a deletion took: the collection's number and the chunks that the index must lose."""

    collection_number: int
    chunks: tuple[int, ...]


class Documents:
    """The verbs on documents.  ``now`` gives Unix time in seconds."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def put(self, tenant: str, put: Put, text: NormalisedText | UnreadSource, key: IdempotencyKey) -> Stored:
        """Store a document or its next version, durable and queued when this returns.

        Text that is there already makes no version; another title or media type only has
        it indexed again, other metadata and readers count at once.  Raises COLLECTION_NOT_FOUND,
        DOCUMENT_ID_TAKEN and FIELD_INVALID.
        """

        def effect(session: Session) -> str:
            row, new_version = storing.store(session, tenant, put, text, self._now())
            return json.dumps(asdict(Stored(shown(row, put.collection), new_version)))

        answer = json.loads(await self._database.write(lambda session: once(session, key, lambda: effect(session))))
        shown_then = {**answer["document"], "readers": tuple(answer["document"].get("readers", ()))}
        return Stored(Document(**shown_then), answer["new_version"])

    async def get(self, tenant: str, collection: str, document: str, viewer: Viewer = SERVICE) -> Document:
        """The document.  Raises COLLECTION_NOT_FOUND and DOCUMENT_NOT_FOUND."""
        return await self._database.read(
            lambda session: shown(require(session, tenant, collection, document, viewer), collection)
        )

    async def page(
        self, tenant: str, collection: str, asked: Asked, states: Sequence[State] = (), viewer: Viewer = SERVICE
    ) -> Page[Document]:
        """A page of the documents, of those in one of the states if there are some.

        Raises COLLECTION_NOT_FOUND, DOCUMENT_NOT_FOUND for an entry to go on from that is not there, FIELD_INVALID.
        """

        def query(session: Session) -> Page[Document]:
            number = catalog.require(session, tenant, collection).number
            rows = select(DocumentRow).where(DocumentRow.collection_number == number, readable(viewer))
            if states:
                rows = rows.where(DocumentRow.state.in_(states))

            def number_of(document: str) -> int:
                return require(session, tenant, collection, document, viewer).number

            found = listing.page(session, rows, DocumentRow.document, DocumentRow.number, asked, number_of)
            return Page(tuple(shown(row, collection) for row in found.entries), found.next)

        return await self._database.read(query)

    async def describe(
        self,
        tenant: str,
        collection: str,
        document: str,
        metadata: Mapping[str, str],
        attributes: Attributes,
        viewer: Viewer = SERVICE,
    ) -> Document:
        """Give the document other metadata, all of it; searches filter by it from then on.

        Raises as :meth:`get`, COLLECTION_EXPIRED, and FIELD_INVALID as ``attributes.merged``.
        """

        def change(session: Session) -> Document:
            in_turn(session, tenant)
            require_live(session, tenant, collection)
            row = require(session, tenant, collection, document, viewer)
            storing.describe(session, row, metadata, attributes)
            return shown(row, collection)

        return await self._database.write(change)

    async def versions(
        self,
        tenant: str,
        collection: str,
        document: str,
        before: int | None,
        most: int,
        viewer: Viewer = SERVICE,
    ) -> list[Version]:
        """Versions, newest first, those stored before sequence ``before``.  Raises as :meth:`get`."""

        def query(session: Session) -> list[Version]:
            row = require(session, tenant, collection, document, viewer)
            rows = select(VersionRow).where(VersionRow.document_number == row.number)
            if before is not None:
                rows = rows.where(VersionRow.sequence < before)
            found = session.scalars(rows.order_by(VersionRow.sequence.desc()).limit(most))
            return [
                Version(it.version, it.characters, it.source_sha256, it.created_at, it.state, it.sequence, it.pages)
                for it in found
            ]

        return await self._database.read(query)

    async def text(
        self,
        tenant: str,
        collection: str,
        document: str,
        version: str,
        start: int,
        end: int,
        viewer: Viewer = SERVICE,
    ) -> Excerpt:
        """Characters [start, end) of a version, of the serving one when it is empty; ``end`` 0 means the end.

        An answer holds 1 MiB at most; more is read from where it ends.  Raises also
        DOCUMENT_VERSION_NOT_FOUND and SPAN_OUT_OF_RANGE.
        """

        def query(session: Session) -> Excerpt:
            row = require(session, tenant, collection, document, viewer)
            wanted = version or row.serving_version or row.newest_version
            held = VersionRow.document_number == row.number, VersionRow.version == wanted
            characters = session.scalar(select(VersionRow.characters).where(*held))
            if characters is None:
                raise Failure(
                    Reason.DOCUMENT_VERSION_NOT_FOUND, name=wanted or "yet", document=document, field="version"
                )
            last = end or characters
            if not start <= last <= characters:
                raise Failure(Reason.SPAN_OUT_OF_RANGE, start=start, end=last, characters=characters, field="end")
            length = min(last - start, _MOST_TEXT_BYTES)
            text = session.scalar(select(func.substr(VersionRow.text, start + 1, length)).where(*held)) or ""
            return Excerpt(_fitting(text), wanted, characters)

        return await self._database.read(query)

    async def delete(self, tenant: str, collection: str, document: str, viewer: Viewer = SERVICE) -> Removed:
        """Delete the document with all its versions.  Raises as :meth:`get`."""

        def change(session: Session) -> Removed:
            in_turn(session, tenant)
            row = require(session, tenant, collection, document, viewer)
            mine = ChunkRow.document_number == row.number
            chunks = tuple(session.scalars(select(ChunkRow.chunk).where(mine)))
            digests = [*catalog.digests_of(session, mine), *holds.let_go(session, tenant, [row.number])]
            session.execute(delete(ChunkRow).where(mine))
            nodes.forget(session, row.number)
            session.delete(row)
            session.flush()
            holds.release(session, tenant, digests)
            return Removed(row.collection_number, chunks)

        return await self._database.write(change)


def shown(row: DocumentRow, collection: str) -> Document:
    """The domain's view of a row."""
    return Document(
        collection=collection,
        document=row.document,
        title=row.title or row.given_title or row.document,
        serving_version=row.serving_version,
        newest_version=row.newest_version,
        state=row.state,
        reason=row.reason,
        media_type=row.media_type,
        charset=row.source_charset,
        metadata=json.loads(row.metadata_json),
        updated_at=row.updated_at,
        chunks=row.chunks,
        chunks_embedded=row.chunks_embedded,
        chunks_reused=row.chunks_reused,
        source_sha256=row.source_sha256,
        source_bytes=row.source_bytes,
        notice=row.notice,
        readers=tuple(json.loads(row.readers_json)),
        attributes_json=row.attributes_json,
    )


def require(session: Session, tenant: str, collection: str, document: str, viewer: Viewer = SERVICE) -> DocumentRow:
    """The tenant's document, where the viewer may read it.  Raises COLLECTION_NOT_FOUND and DOCUMENT_NOT_FOUND."""
    row = storing.find(session, catalog.require(session, tenant, collection).number, document)
    if row is None or not may_read(session, row, viewer):
        raise Failure(Reason.DOCUMENT_NOT_FOUND, name=document, field="document")
    return row


def _fitting(text: str) -> str:
    """As many whole characters as fit one answer."""
    return text.encode()[:_MOST_TEXT_BYTES].decode(errors="ignore")
