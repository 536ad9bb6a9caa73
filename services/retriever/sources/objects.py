"""What is remembered of a source's objects, so that the next reading fetches only what changed.

Invariant: an object counts as unchanged only if the document that it became is still the one that it became; nothing
is recorded for a reading that nobody wants any more.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever.documents.states import State
from services.retriever.sources.queue import Work, still_wanted
from services.retriever.sources.reading import Remembered
from services.retriever.store import DocumentRow
from services.retriever.store_sources import SourceObjectRow

_BATCH = 500


class NotWanted(Exception):
    """The source was stopped, forgotten, or asked for anew."""


@dataclass(frozen=True, slots=True)
class Known:
    """An object as the last reading left it.

    ``sha256`` is of the bytes that became its document, ``intact`` says whether that document still has them,
    ``problem`` why there is none.
    """

    uri: str
    remembered: Remembered
    sha256: str
    problem: str
    intact: bool

    @property
    def settled(self) -> bool:
        """Whether the object, if it has not changed, needs nothing."""
        return self.intact or bool(self.problem)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an object that was fetched, or could not be; ``same``: its bytes were the document's already."""

    uri: str
    remembered: Remembered
    sha256: str = ""
    problem: str = ""
    fetched_bytes: int = 0
    same: bool = False


@dataclass(frozen=True, slots=True)
class SourceObjects:
    """The rows.  Every write raises NotWanted for a reading that is over."""

    database: Database

    async def known(self, work: Work, uris: Sequence[str]) -> dict[str, Known]:
        """What is remembered of these."""

        def query(session: Session) -> dict[str, Known]:
            found: dict[str, Known] = {}
            for first in range(0, len(uris), _BATCH):
                some = uris[first : first + _BATCH]
                rows = select(SourceObjectRow).where(
                    SourceObjectRow.source_number == work.number,
                    SourceObjectRow.uri_digest.in_([_digest(uri) for uri in some]),
                )
                held = _digests(session, work, some)
                found |= {row.uri: _known(row, held.get(row.uri)) for row in session.scalars(rows)}
            return found

        return await self.database.read(query)

    async def seen(self, work: Work, objects: Sequence[Known]) -> None:
        """These are as they were."""

        def change(session: Session) -> None:
            row = still_wanted(session, work)
            if row is None:
                raise NotWanted
            unfit = 0
            for first in range(0, len(objects), _BATCH):
                digests = [_digest(known.uri) for known in objects[first : first + _BATCH]]
                mine = SourceObjectRow.source_number == work.number, SourceObjectRow.uri_digest.in_(digests)
                session.execute(update(SourceObjectRow).where(*mine).values(reading=work.reading))
                # As it is now: a conversion may have failed since they were looked up.
                amiss = select(func.count()).where(*mine, SourceObjectRow.problem != "")
                unfit += int(session.scalar(amiss) or 0)
            row.found += len(objects)
            row.failed += unfit
            row.unchanged += len(objects) - unfit

        await self.database.write(change)

    async def record(self, work: Work, outcome: Outcome) -> None:
        """Write down what became of an object; a document that it became before stays."""

        def change(session: Session) -> None:
            source = still_wanted(session, work)
            if source is None:
                raise NotWanted
            digest = _digest(outcome.uri)
            problem = outcome.problem or _failed_already(session, work, outcome)
            row = session.get(SourceObjectRow, (work.number, digest))
            if row is None:
                row = SourceObjectRow(source_number=work.number, uri_digest=digest, uri=outcome.uri, sha256="")
                session.add(row)
            seen = outcome.remembered
            row.etag, row.modified, row.size_bytes = seen.etag, seen.modified, seen.size_bytes
            row.sha256 = outcome.sha256 or row.sha256
            row.problem, row.reading = problem, work.reading
            if not problem and not outcome.same:
                row.stored_in = work.reading
            source.found += 1
            source.failed += bool(problem)
            source.unchanged += outcome.same and not problem
            source.stored += not (problem or outcome.same)
            source.fetched_bytes += outcome.fetched_bytes

        await self.database.write(change)

    async def unseen(self, work: Work) -> list[Known]:
        """Some of the objects that this reading has not met; none when there are no more."""

        def query(session: Session) -> list[Known]:
            mine = SourceObjectRow.source_number == work.number, SourceObjectRow.reading < work.reading
            rows = list(session.scalars(select(SourceObjectRow).where(*mine).limit(_BATCH)))
            held = _digests(session, work, [row.uri for row in rows])
            return [_known(row, held.get(row.uri)) for row in rows]

        return await self.database.read(query)

    async def forget(self, work: Work, known: Known) -> None:
        """The object is gone, and its document with it, if it was still its own."""

        def change(session: Session) -> None:
            source = still_wanted(session, work)
            if source is None:
                raise NotWanted
            mine = SourceObjectRow.source_number == work.number, SourceObjectRow.uri_digest == _digest(known.uri)
            session.execute(delete(SourceObjectRow).where(*mine))
            source.deleted += known.intact

        await self.database.write(change)


def _failed_already(session: Session, work: Work, outcome: Outcome) -> str:
    """Why the document that was just stored came to nothing, where its conversion was quicker than this record."""
    mine = DocumentRow.collection_number == work.collection_number, DocumentRow.document == outcome.uri
    row = session.scalars(select(DocumentRow).where(*mine)).one_or_none()
    failed = row is not None and row.state == State.FAILED and row.source_sha256 == outcome.sha256
    return row.reason if row is not None and failed else ""


def _known(row: SourceObjectRow, held_sha256: str | None) -> Known:
    intact = bool(row.sha256) and held_sha256 == row.sha256
    return Known(row.uri, Remembered(row.etag, row.modified, row.size_bytes), row.sha256, row.problem, intact)


def _digests(session: Session, work: Work, uris: Sequence[str]) -> dict[str, str]:
    """The digests of the bytes of those documents of the collection that have these ids."""
    mine = DocumentRow.collection_number == work.collection_number, DocumentRow.document.in_(uris)
    found = session.execute(select(DocumentRow.document, DocumentRow.source_sha256).where(*mine))
    return dict(found.tuples().all())


def _digest(uri: str) -> bytes:
    return hashlib.sha256(uri.encode()).digest()
