"""What a put does to a document's newest version and its place in the queue.

Invariant: a text that is there already is not stored twice; bytes that are not text wait for their conversion, and the
newest version stays what it was until they are.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.retriever.documents import source_bytes
from services.retriever.documents.states import State
from services.retriever.store import DocumentRow, VersionRow
from services.retriever.text.texts import NormalisedText, UnreadSource


def put_text(session: Session, row: DocumentRow, title: str, text: NormalisedText, now: float) -> bool:
    """Make a text the document's newest version; whether another one was."""
    new = row.newest_version != text.version
    same = (row.given_title, row.media_type) == (title, text.media_type) and not new
    waits = row.source_parts > 0
    _describe(row, title, text)
    row.source_charset = text.charset
    if not same or waits or row.state == State.FAILED:
        _queue(row, now)
    session.flush()
    if waits:
        source_bytes.forget(session, row)
    store_version(session, row, text, now)
    return new


def put_unread(session: Session, row: DocumentRow, title: str, source: UnreadSource, now: float) -> bool:
    """Keep bytes to be converted, unless they were or wait already; whether they are others than before."""
    told = row.source_sha256, row.media_type, row.source_charset
    same = told == (source.source_sha256, source.media_type, source.charset)
    new = row.source_sha256 != source.source_sha256
    retitled = row.given_title != title
    _describe(row, title, source)
    row.source_charset = source.charset
    if not same or (row.state == State.FAILED and not _is_read(session, row)):
        _supersede_newest(session, row)
        _queue(row, now)
        source_bytes.keep(session, row, source.content)
    elif retitled or row.state == State.FAILED:
        _queue(row, now)
    return new


def store_version(
    session: Session,
    row: DocumentRow,
    text: NormalisedText,
    now: float,
    *,
    layout: bytes | None = None,
    pages: int = 0,
) -> None:
    """Make a text the document's newest version, which has the highest sequence, also when it is an old one again.

    ``layout`` and ``pages`` are those of a text that was converted.
    """
    held = session.get(VersionRow, (row.number, text.version))
    if held is not None:
        held.layout, held.pages = layout, pages
    if row.newest_version == text.version:
        return
    _supersede_newest(session, row)
    row.newest_version = text.version
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
            layout=layout,
            pages=pages,
        )
    )


def _describe(row: DocumentRow, title: str, text: NormalisedText | UnreadSource) -> None:
    row.given_title, row.media_type, row.source_sha256 = title, text.media_type, text.source_sha256
    row.source_bytes = text.source_bytes


def _queue(row: DocumentRow, now: float) -> None:
    """Put the document at the end of the queue; what runs for it already ends in nothing."""
    row.state, row.reason = State.PENDING, ""
    row.revision += 1
    row.chunks_embedded = row.chunks_reused = 0
    row.queued_at = row.updated_at = now


def _is_read(session: Session, row: DocumentRow) -> bool:
    """Whether the newest version is what the document's bytes say."""
    newest = session.get(VersionRow, (row.number, row.newest_version)) if row.newest_version else None
    return newest is not None and newest.source_sha256 == row.source_sha256


def _supersede_newest(session: Session, row: DocumentRow) -> None:
    """The newest version will never serve, unless it does already."""
    if row.newest_version not in ("", row.serving_version):
        session.get_one(VersionRow, (row.number, row.newest_version)).state = State.SUPERSEDED
