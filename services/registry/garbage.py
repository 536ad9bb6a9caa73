"""Removes bytes that nothing reaches: no version, no upload that is recent, none that is under way.

Invariant: a blob goes only inside a writing transaction that found no row for it, and
an upload's row comes only in one that found its blob (:meth:`Uploads.receive`).  Writing
transactions take turns over all replicas, so neither can slip between the other's look
and its deed, whatever the clocks say.  The grace keeps what is on its way to a row;
it is counted from the store's own time of a blob.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.chassis.blobs import Blobs
from services.chassis.database import Database
from services.registry.store import FileRow, UploadRow
from services.registry.uploads import Uploads

_LOOK_AT_ONCE = 500
# Everybody else's writes wait meanwhile.
_DELETE_AT_ONCE = 16


class Garbage:
    """The sweep; any number of replicas may run it at any time."""

    def __init__(
        self, database: Database, blobs: Blobs, uploads: Uploads, grace_seconds: float, now: Callable[[], float]
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._uploads = uploads
        self._grace_seconds = grace_seconds
        self._now = now

    async def sweep(self) -> int:
        """Clear what nobody needs and what a kill left between two steps; returns how many blobs went."""
        before = self._now() - self._grace_seconds
        await self._uploads.clear_staging(self._grace_seconds)
        await self._blobs.clear_scratch()
        await self._database.write(
            lambda session: session.execute(delete(UploadRow).where(UploadRow.completed_at < before))
        )
        gone, page = 0, []
        async for blob in self._blobs.stored():
            if blob.modified_at < before:
                page.append(blob.sha256)
            if len(page) == _LOOK_AT_ONCE:
                gone += await self._drop_unreachable(page)
                page = []
        return gone + await self._drop_unreachable(page)

    async def _drop_unreachable(self, digests: Sequence[str]) -> int:
        """Look first without holding anybody up; what is to go is looked at again."""
        reached = await self._database.read(lambda session: _reached(session, digests))
        unreachable = [sha256 for sha256 in digests if sha256 not in reached]
        gone = 0
        for start in range(0, len(unreachable), _DELETE_AT_ONCE):
            some = unreachable[start : start + _DELETE_AT_ONCE]
            gone += await self._database.write(partial(self._drop, digests=some))
        return gone

    def _drop(self, session: Session, digests: Sequence[str]) -> int:
        unreachable = set(digests) - _reached(session, digests)
        for sha256 in unreachable:
            self._blobs.delete_now(sha256)
        return len(unreachable)


def _reached(session: Session, digests: Sequence[str]) -> set[str]:
    tables: tuple[Any, ...] = (FileRow, UploadRow)
    return {
        sha256 for table in tables for sha256 in session.scalars(select(table.sha256).where(table.sha256.in_(digests)))
    }
