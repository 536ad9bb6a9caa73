"""The rows that a put writes: document, metadata, version, and the place in the queue.

Invariant: one call is one effect of one transaction; the version, or the bytes that it is
to be made of, is there before the queue names it (``versioning``).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.retriever.documents import attributes, versioning
from services.retriever.documents.attributes import Attributes, Moment, Value, folded, kind_of
from services.retriever.documents.readers import SERVICE, Viewer, may_read
from services.retriever.documents.states import State
from services.retriever.expiry import require_live
from services.retriever.store import DocumentRow, MetadataRow, ReaderRow, in_turn
from services.retriever.text.texts import NormalisedText, UnreadSource


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


def store(
    session: Session, tenant: str, put: Put, text: NormalisedText | UnreadSource, now: float
) -> tuple[DocumentRow, bool]:
    """Write the rows of a put; the document's, and whether what it says is another thing than before.

    Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED, DOCUMENT_ID_TAKEN and what ``attributes.merged`` raises.
    """
    values = attributes.merged(put.metadata, put.attributes)
    in_turn(session, tenant)
    collection = require_live(session, tenant, put.collection)
    row = find(session, collection.number, put.document)
    if row is None:
        row = _begun(tenant, collection.number, put, text, now)
        session.add(row)
    elif not may_read(session, row, put.viewer):
        # Over a hidden one would take it away from its readers, and show its earlier versions to the new ones.
        raise Failure(Reason.DOCUMENT_ID_TAKEN, name=put.document, field="document")
    row.metadata_json = _sorted(put.metadata)
    if isinstance(text, NormalisedText):
        new_version = versioning.put_text(session, row, put.title, text, now)
    else:
        new_version = versioning.put_unread(session, row, put.title, text, now)
    row.attributes_json, row.readers_json = attributes.encoded(put.attributes), json.dumps(sorted(set(put.readers)))
    session.flush()
    _set_values(session, row, values)
    _set_readers(session, row, put.readers)
    return row, new_version


def describe(session: Session, row: DocumentRow, metadata: Mapping[str, str], given: Attributes) -> None:
    """Give a document other metadata, all of it; nothing of it is queued.  Raises what ``attributes.merged`` raises."""
    values = attributes.merged(metadata, given)
    row.metadata_json, row.attributes_json = _sorted(metadata), attributes.encoded(given)
    session.flush()
    _set_values(session, row, values)


def _begun(
    tenant: str, collection_number: int, put: Put, text: NormalisedText | UnreadSource, now: float
) -> DocumentRow:
    return DocumentRow(
        tenant=tenant,
        collection_number=collection_number,
        document=put.document,
        title="",
        given_title=put.title,
        media_type=text.media_type,
        newest_version="",
        source_sha256="",
        source_charset="",
        source_parts=0,
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


def _sorted(metadata: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(metadata.items())))
