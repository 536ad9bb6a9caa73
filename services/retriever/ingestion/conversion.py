"""Documents that are not text, to versions that are.

Invariant: a version is stored, named the newest and its source forgotten in one transaction, so a kill leaves the
bytes to be read again or the text to go on with.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever.documents import layout, source_bytes, versioning
from services.retriever.documents.media import MediaType
from services.retriever.formats.convert import Raw
from services.retriever.formats.writer import Converted
from services.retriever.ingestion.queue import Job, still_wanted
from services.retriever.text.texts import NormalisedText, version_of


@dataclass(frozen=True, slots=True)
class Conversions:
    """What waits to be converted, and what came of it.  ``now`` gives Unix time in seconds."""

    database: Database
    now: Callable[[], float]
    most_characters: int

    async def source(self, job: Job) -> Raw | None:
        """The bytes to convert; None when a newer put or a deletion came first."""

        def query(session: Session) -> Raw | None:
            row = still_wanted(session, job)
            if row is None or not row.source_parts:
                return None
            content = source_bytes.load(session, row.number)
            return Raw(content, MediaType(row.media_type), row.source_charset, self.most_characters)

        return await self.database.write(query)

    async def store(self, job: Job, converted: Converted) -> Job | None:
        """Store what the bytes say as the newest version; the job to go on with, None as for :meth:`source`."""
        version, packed = version_of(converted.text), layout.packed(converted)

        def change(session: Session) -> Job | None:
            row = still_wanted(session, job)
            if row is None:
                return None
            source_bytes.forget(session, row)
            text = NormalisedText(converted.text, version, row.source_sha256, MediaType(row.media_type))
            versioning.store_version(session, row, text, self.now(), layout=packed, pages=len(converted.pages))
            return replace(job, version=version, text=converted.text, layout=packed, unread=False)

        return await self.database.write(change)
