"""Removes what has expired, and bytes that no row names.

Invariant: a blob goes only inside a writing transaction that found no row for it, and a row comes only in one that
found its blob (:meth:`Files.add`).  Writing transactions take turns over all replicas, so neither can slip between
the other's look and its deed.  The grace keeps what is on its way to a row.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.blobs import Blobs
from services.chassis.database import Database
from services.files import files, responses
from services.files.batches.batch import UNENDED
from services.files.receiving import Receiving
from services.files.store import FileRow, ResponseRow
from services.files.store_batches import BatchRow

_EXPIRED_AT_ONCE = 200
_LOOK_AT_ONCE = 500
# Everybody else's writes wait meanwhile.
_DELETE_AT_ONCE = 16


class Garbage:
    """The sweep; any number of replicas may run it at any time."""

    def __init__(
        self, database: Database, blobs: Blobs, receiving: Receiving, grace_seconds: float, now: Callable[[], float]
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._receiving = receiving
        self._grace_seconds = grace_seconds
        self._now = now

    async def sweep(self) -> dict[str, int]:
        """Clear what nobody needs; returns how much of each kind went.  Raises OSError, Failure."""
        before = self._now() - self._grace_seconds
        await asyncio.to_thread(self._receiving.clear, before)
        await self._blobs.clear_scratch()
        expired = await self._expire(self._expired_files) + await self._expire(self._expired_responses)
        gone, page = 0, []
        async for blob in self._blobs.stored():
            if blob.modified_at < before:
                page.append(blob.sha256)
            if len(page) == _LOOK_AT_ONCE:
                gone += await self._drop_unreachable(page)
                page = []
        return {"expired": expired, "blobs": gone + await self._drop_unreachable(page)}

    async def _expire(self, change: Callable[[Session], int]) -> int:
        """A few at a time, until there are none: others write in between."""
        gone = 0
        while some := await self._database.write(change):
            gone += some
        return gone

    def _expired_files(self, session: Session) -> int:
        found = session.scalars(select(FileRow).where(FileRow.expires_at <= self._now()).limit(_EXPIRED_AT_ONCE)).all()
        for row in found:
            files.drop(session, row)
        return len(found)

    def _expired_responses(self, session: Session) -> int:
        old = select(ResponseRow).where(ResponseRow.expires_at <= self._now()).limit(_EXPIRED_AT_ONCE)
        found = session.scalars(old).all()
        for row in found:
            responses.drop(session, row)
        return len(found)

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
    """Those that a file names, or a batch that has not ended: its input may be deleted while it runs."""
    files = select(FileRow.sha256).where(FileRow.sha256.in_(digests))
    batches = select(BatchRow.input_sha256).where(BatchRow.input_sha256.in_(digests), BatchRow.state.in_(UNENDED))
    return set(session.scalars(files)) | set(session.scalars(batches))
