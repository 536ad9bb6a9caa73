"""The rows that a put writes: document, metadata, version, and the place in the queue.

Invariant: one call is one effect of one transaction; the version is there before the
queue names it, and a text that is there already is not stored twice.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.retriever import attributes, catalog
from services.retriever.attributes import Attributes, Moment, Value, folded, kind_of
from services.retriever.readers import SERVICE, Viewer, may_read
from services.retriever.states import State
from services.retriever.store import DocumentRow, MetadataRow, ReaderRow, VersionRow, in_turn
from services.retriever.texts import NormalisedText


@dataclass(frozen=True, slots=True)
class Put:
    """What to store: under which id, called what, with which metadata, readable by whom, stored by whom."""

    collection: str
    document: str
    title: str
    metadata: Mapping[str, str]
    attributes: Attributes = field(default_factory=dict)
    readers: tuple[str, ...] = ()
    viewer: Viewer = SERVICE


def store(session: Session, tenant: str, put: Put, text: NormalisedText, now: float) -> tuple[DocumentRow, bool]:
    """Write the rows of a put; the document's, and whether its newest version is another one than before.

    Raises COLLECTION_NOT_FOUND, DOCUMENT_ID_TAKEN and what ``attributes.merged`` raises.
    """
    values = attributes.merged(put.metadata, put.attributes)
    in_turn(session, tenant)
    collection = catalog.require(session, tenant, put.collection)
    row = find(session, collection.number, put.document)
    if row is None:
        row = _begun(tenant, collection.number, put, text, now)
        session.add(row)
    elif not may_read(session, row, put.viewer):
        # Over a hidden one would take it away from its readers, and show its earlier versions to the new ones.
        raise Failure(Reason.DOCUMENT_ID_TAKEN, name=put.document, field="document")
    new_version = row.newest_version != text.version
    same = (row.given_title, row.media_type) == (put.title, text.media_type) and not new_version
    row.given_title, row.media_type, row.metadata_json = put.title, text.media_type, _sorted(put.metadata)
    row.source_sha256 = text.source_sha256
    if new_version and row.newest_version not in ("", row.serving_version):
        session.get_one(VersionRow, (row.number, row.newest_version)).state = State.SUPERSEDED
    if not same or row.state == State.FAILED:
        _queue(row, text.version, now)
    row.attributes_json, row.readers_json = attributes.encoded(put.attributes), json.dumps(sorted(set(put.readers)))
    session.flush()
    _set_values(session, row, values)
    _set_readers(session, row, put.readers)
    _store_version(session, row, text, now, newest=new_version)
    return row, new_version


def _begun(tenant: str, collection_number: int, put: Put, text: NormalisedText, now: float) -> DocumentRow:
    return DocumentRow(
        tenant=tenant,
        collection_number=collection_number,
        document=put.document,
        title="",
        given_title=put.title,
        media_type=text.media_type,
        newest_version="",
        serving_version="",
        state=State.READY,
        reason="",
        revision=0,
        chunks=0,
        queued_at=now,
        updated_at=now,
        stored_by=put.viewer.principal,
    )


def find(session: Session, collection_number: int, document: str) -> DocumentRow | None:
    """The document of the collection with this number, if there is one."""
    query = select(DocumentRow).where(
        DocumentRow.collection_number == collection_number, DocumentRow.document == document
    )
    return session.scalars(query).one_or_none()


def _queue(row: DocumentRow, version: str, now: float) -> None:
    """Put the document at the end of the queue; what runs for it already ends in nothing."""
    row.newest_version = version
    row.state, row.reason = State.PENDING, ""
    row.revision += 1
    row.chunks_embedded = row.chunks_reused = 0
    row.queued_at = row.updated_at = now


def _set_values(session: Session, row: DocumentRow, values: Attributes) -> None:
    session.execute(delete(MetadataRow).where(MetadataRow.document_number == row.number))
    owner = {"document_number": row.number, "tenant": row.tenant, "collection_number": row.collection_number}
    rows = [
        {**owner, "name": name, "kind": kind_of(value).name, **columns}
        for name, value in values.items()
        for columns in _columns(value)
    ]
    if rows:
        session.execute(insert(MetadataRow), rows)


def _columns(value: Value) -> list[dict[str, object]]:
    """The columns of a value, a row each; a list without texts is there as well, and holds nothing."""
    empty: dict[str, object] = {"place": 0, "text": None, "folded": None, "number": None, "micros": None}
    if isinstance(value, tuple):
        texts = [{**empty, "place": at, "text": it, "folded": folded(it)} for at, it in enumerate(dict.fromkeys(value))]
        return texts or [empty]
    if isinstance(value, str):
        return [{**empty, "text": value, "folded": folded(value)}]
    if isinstance(value, Moment):
        return [{**empty, "micros": value.micros}]
    return [{**empty, "number": float(value)}]


def _set_readers(session: Session, row: DocumentRow, readers: Iterable[str]) -> None:
    session.execute(delete(ReaderRow).where(ReaderRow.document_number == row.number))
    owner = {"document_number": row.number, "tenant": row.tenant, "collection_number": row.collection_number}
    rows = [{**owner, "reader": reader} for reader in sorted(set(readers))]
    if rows:
        session.execute(insert(ReaderRow), rows)


def _store_version(session: Session, row: DocumentRow, text: NormalisedText, now: float, *, newest: bool) -> None:
    """Store the text unless it is there; the newest gets the highest sequence, also when it is an old one again."""
    held = session.get(VersionRow, (row.number, text.version))
    if held is not None and not newest:
        return
    mine = VersionRow.document_number == row.number
    sequence = int(session.scalar(select(func.coalesce(func.max(VersionRow.sequence), 0)).where(mine)) or 0) + 1
    if held is not None:
        held.sequence, held.state = sequence, State.PENDING
        return
    session.add(
        VersionRow(
            document_number=row.number,
            version=text.version,
            tenant=row.tenant,
            sequence=sequence,
            text=text.text,
            characters=len(text.text),
            source_sha256=text.source_sha256,
            state=State.PENDING,
            created_at=now,
        )
    )


def _sorted(metadata: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(metadata.items())))
