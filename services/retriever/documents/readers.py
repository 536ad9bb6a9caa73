"""Who may read which document.

Invariant: whatever shows a document, a part of it or its state asks here, in SQL and
before anything is ranked or counted; what is hidden looks like what is missing,
but to who deletes a file (``Collections.hides``).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.orm import Session

from services.chassis.context import RequestContext, Role, at_least, require
from services.retriever.store import DocumentRow, ReaderRow

_WRITERS = at_least(Role.DEVELOPER)
_MANAGERS = (Role.OWNER, Role.ADMIN)
NO_READERS = "[]"


@dataclass(frozen=True, slots=True)
class Viewer:
    """For whom is looked: the ids that count, the principal whose own documents count, and whether all do."""

    ids: frozenset[str] = frozenset()
    principal: str = ""
    sees_all: bool = False


# What the service does by itself: ingestion, repair, tests of the parts below the RPCs.
SERVICE = Viewer(sees_all=True)


def manager(asking: RequestContext, as_readers: Iterable[str]) -> Viewer:
    """Who looks at documents one by one: as they are managed, or as these ids where some are stated.

    Raises ROLE_MISSING for ids that a reader states.
    """
    stated = _stated(as_readers)
    if stated:
        return Viewer(stated | {asking.principal_id})
    return Viewer(frozenset({asking.principal_id}), asking.principal_id, asking.has(*_MANAGERS))


def finder(asking: RequestContext, as_readers: Iterable[str]) -> Viewer:
    """For whom a search finds: the caller's own id and these.  Raises ROLE_MISSING as :func:`manager`.

    Managing does not count: an application with an owner's key that forgets whom it asks
    for shows too little and never too much.
    """
    return Viewer(_stated(as_readers) | {asking.principal_id})


def _stated(as_readers: Iterable[str]) -> frozenset[str]:
    stated = frozenset(as_readers)
    if stated:
        require(*_WRITERS)
    return stated


def readable(viewer: Viewer) -> ColumnElement[bool]:
    """The condition on DocumentRow."""
    if viewer.sees_all:
        return true()
    named = select(ReaderRow.reader).where(
        ReaderRow.document_number == DocumentRow.number, ReaderRow.reader.in_(sorted(viewer.ids))
    )
    ways = [DocumentRow.readers_json == NO_READERS, named.correlate(DocumentRow).exists()]
    if viewer.principal:
        ways.append(DocumentRow.stored_by == viewer.principal)
    return or_(*ways)


def may_read(session: Session, row: DocumentRow, viewer: Viewer) -> bool:
    """Whether the viewer may read this document."""
    return (
        session.scalar(select(DocumentRow.number).where(DocumentRow.number == row.number, readable(viewer))) is not None
    )


def any_restricted(session: Session, collection_number: int) -> bool:
    """Whether the collection has a document that not everybody may read."""
    query = select(ReaderRow.reader).where(ReaderRow.collection_number == collection_number).limit(1)
    return session.scalar(query) is not None
