"""The files of answers and of errors, written from the results when no more is asked.

Invariant: a batch gets its files, its end and the removal of its results in one transaction: after a kill before it
everything is written again, from the same results.
"""

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from services.chassis.blobs import Blobs
from services.chassis.files import disk_full_named, require_space
from services.files.batches.asking import unanswered
from services.files.batches.batch import Batch, State
from services.files.batches.lines import Request, requests
from services.files.batches.runs import Result, Run, Runs
from services.files.files import Content, Files, Purpose, Wish
from services.files.store_batches import BatchRow

_AT_ONCE = 100
_UNASKED = {
    State.EXPIRED: ("batch_expired", "This request could not be asked before the batch's window ended."),
    State.CANCELLED: ("batch_cancelled", "The batch was cancelled before this request was answered."),
}


class Outputs:
    """Writes a batch's files and ends it."""

    def __init__(self, runs: Runs, files: Files, blobs: Blobs, staging: Path) -> None:
        self._runs = runs
        self._files = files
        self._blobs = blobs
        self._staging = staging

    async def end(self, run: Run, ending: State) -> None:
        """Write both files, and let the batch be what it ends as.  Raises Superseded, DISK_FULL."""
        await asyncio.to_thread(require_space, self._staging, 0, "the files")
        answers, errors = await self._write(run.batch, ending)

        def change(session: Session, row: BatchRow) -> None:
            row.output_file = self._entered(session, run.batch, answers, "output")
            row.error_file = self._entered(session, run.batch, errors, "errors")

        await self._runs.end(run, change)

    def _entered(self, session: Session, batch: Batch, content: Content | None, what: str) -> str:
        if content is None:
            return ""
        wish = Wish(
            f"{batch.batch}_{what}.jsonl", Purpose.BATCH_OUTPUT, "application/jsonl", float(batch.order.output_seconds)
        )
        return self._files.add(session, batch.tenant, wish, content, limited=False).file

    async def _write(self, batch: Batch, ending: State) -> tuple[Content | None, Content | None]:
        folder = self._staging / hashlib.sha256(batch.tenant.encode()).hexdigest()[:32]
        answers, errors = _Growing(folder), _Growing(folder)
        try:
            after = 0
            while page := await self._runs.results(batch, after, _AT_ONCE):
                for result in page:
                    await (answers if result.answered else errors).add(result.written)
                after = page[-1].line
            async for result in self._unasked(batch, ending):
                await errors.add(result.written)
            return await self._kept(answers), await self._kept(errors)
        finally:
            answers.discard()
            errors.discard()

    async def _unasked(self, batch: Batch, ending: State) -> AsyncIterator[Result]:
        if ending not in _UNASKED:
            return
        code, message = _UNASKED[ending]
        done = await self._runs.done(batch)
        async for request in requests(self._blobs.read(batch.input_sha256, 0), batch.order.endpoint, done):
            # A batch that was cancelled while it was checked may have lines that are no requests.
            if isinstance(request, Request):
                yield unanswered(batch, request, code, message)

    async def _kept(self, growing: "_Growing") -> Content | None:
        content = await asyncio.to_thread(growing.finish)
        if content is not None:
            await self._blobs.adopt(growing.path, content.sha256)
        return content


class _Growing:
    """A file that is being written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / uuid.uuid4().hex
        self._file: BinaryIO | None = None
        self._size_bytes = 0
        self._digest = hashlib.sha256()

    async def add(self, line: bytes) -> None:
        await asyncio.to_thread(self._add, line)

    def _add(self, line: bytes) -> None:
        with disk_full_named("the files"):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("xb")
            self._file.write(line)
        self._digest.update(line)
        self._size_bytes += len(line)

    def finish(self) -> Content | None:
        """Make it durable; None where nothing was written."""
        if self._file is None:
            return None
        with disk_full_named("the files"):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        return Content(self._digest.hexdigest(), self._size_bytes)

    def discard(self) -> None:
        """Leave nothing; what was adopted is elsewhere by now."""
        if self._file is not None:
            self._file.close()
            self.path.unlink(missing_ok=True)
