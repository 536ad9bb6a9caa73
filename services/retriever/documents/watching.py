"""Ingestion states as they are, then each change, until nothing waits or runs.

Invariant: a watcher reads rows in the order of their changes and is only woken by memory,
so the last state of every document reaches it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever import catalog
from services.retriever.changes import Changes
from services.retriever.documents.documents import Document, require, shown
from services.retriever.documents.readers import SERVICE, Viewer, readable
from services.retriever.documents.states import State
from services.retriever.store import DocumentRow

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Beat:
    """A document's state, and how many of its collection, that the viewer may read, wait or run."""

    document: Document
    pending: int


@dataclass(frozen=True, slots=True)
class Watched:
    """What to watch: a collection, or one document of it (0: all), as far as the viewer may read."""

    collection: str
    number: int
    document_number: int
    viewer: Viewer


@dataclass(frozen=True, slots=True)
class _Look:
    beats: tuple[Beat, ...]
    cursor: int
    whole: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class Watching:
    """The verb."""

    database: Database
    changes: Changes

    async def follow(
        self, tenant: str, collection: str, document: str, viewer: Viewer = SERVICE
    ) -> AsyncGenerator[Beat]:
        """States of a document, or of all when it is empty.  Raises COLLECTION_NOT_FOUND and DOCUMENT_NOT_FOUND."""
        watched = await self.database.read(lambda session: _find(session, tenant, collection, document, viewer))
        cursor = 0
        while True:
            changed = self.changes.next(watched.number)
            look = await self._look(watched, cursor)
            cursor = look.cursor
            for beat in look.beats:
                yield beat
            if not look.whole:
                continue
            if look.settled:
                return
            await changed.wait()

    async def _look(self, watched: Watched, cursor: int) -> _Look:
        return await self.database.read(lambda session: _look(session, watched, cursor))


def _find(session: Session, tenant: str, collection: str, document: str, viewer: Viewer) -> Watched:
    number = catalog.require(session, tenant, collection).number
    one = require(session, tenant, collection, document, viewer).number if document else 0
    return Watched(collection, number, one, viewer)


def _look(session: Session, watched: Watched, cursor: int) -> _Look:
    mine = DocumentRow.collection_number == watched.number, readable(watched.viewer)
    unfinished = *mine, DocumentRow.state.in_(State.unfinished())
    pending = catalog.count(session, DocumentRow, *unfinished)
    query = select(DocumentRow).where(*mine, DocumentRow.change_sequence > cursor)
    waits = pending
    if watched.document_number:
        query = query.where(DocumentRow.number == watched.document_number)
        waits = catalog.count(session, DocumentRow, *unfinished, DocumentRow.number == watched.document_number)
    rows = list(session.scalars(query.order_by(DocumentRow.change_sequence).limit(_PAGE)))
    beats = tuple(Beat(shown(row, watched.collection), pending) for row in rows)
    cursor = rows[-1].change_sequence if rows else cursor
    return _Look(beats, cursor, whole=len(rows) < _PAGE, settled=not waits)
