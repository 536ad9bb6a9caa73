"""Datasets of a tenant: received in pieces, checked row by row, stored by digest, never changed.

Invariants: a dataset that is listed was checked whole, and its bytes were durable before its row was; receiving,
checking, storing and deleting the same bytes of a tenant never overlap; bytes that nobody lists do not stay.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason, Violation
from services.chassis.files import require_space
from services.chassis.streams import Chunk, partial_path, receive
from services.trainer.data import dataset_rows
from services.trainer.data.checker import Checker, Say
from services.trainer.data.checking import Counted, Flawed
from services.trainer.data.dataset_files import DatasetFiles
from services.trainer.data.dataset_rows import Dataset, Incoming
from services.trainer.data.preview import PreviewRow
from services.trainer.data.problem_lists import ProblemLists
from services.trainer.data.report import Asked, Report
from services.trainer.data.rows import Format, Problem

T = TypeVar("T")

# A sweep of another replica may take bytes between their being stored and their row; that it does so twice is absurd.
_ATTEMPTS = 3
# Of these the answers may be labels.
_ANSWERING = frozenset({Format.RECORDS, Format.CHAT, Format.PROMPT_COMPLETION})


class BaseFolders(Protocol):
    """Where bases lie, by the names that callers give them."""

    def folder(self, name: str) -> AbstractAsyncContextManager[tuple[str, Path]]:
        """The base's own name and, inside the block, its folder.  Raises BASE_NOT_FOUND."""


class Datasets:
    """The verbs on datasets.  `checker` reads what was uploaded, elsewhere."""

    def __init__(
        self,
        database: Database,
        files: DatasetFiles,
        lists: ProblemLists,
        bases: BaseFolders,
        *,
        max_bytes: int,
        checker: Checker,
        blocking: Callable[..., Awaitable[object]],
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._files = files
        self._lists = lists
        self._bases = bases
        self._max_bytes = max_bytes
        self._checker = checker
        self._blocking = blocking
        self._now = now
        # One for each tenant and digest that somebody is about: held by whoever changes the row or the bytes.
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def file(self, digest: str) -> Path:
        """A file of this machine with a dataset's bytes, which stays while a job that uses it is unfinished.

        Raises DATASET_NOT_FOUND, DISK_FULL, PEER_UNAVAILABLE.
        """
        return await self._files.file(digest)

    async def upload(
        self, tenant: str, incoming: Incoming, chunks: AsyncIterable[Chunk], warn: Say = lambda _: None
    ) -> Dataset:
        """Receive, check and store; `warn` hears what is said of lines, some at a time, also of a file that is refused.

        Raises DATASET_MALFORMED (naming lines), DATASET_UNCHECKED, DATASET_TOO_LARGE, UPLOAD_IN_PROGRESS, DISK_FULL,
        NOT_READY (what was received is kept) and what receiving raises.
        """
        if incoming.size_bytes > self._max_bytes:
            raise Failure(Reason.DATASET_TOO_LARGE, size_bytes=incoming.size_bytes, limit_bytes=self._max_bytes)
        turn = self._turn(tenant, incoming.sha256)
        if turn.locked():
            # Two writers of one file would each spoil what the other wrote.
            raise Failure(Reason.UPLOAD_IN_PROGRESS, retry_after_seconds=1.0)
        async with turn:
            known = await self._known(tenant, incoming)
            if known is not None:
                return known
            path = await self._received(tenant, incoming, chunks)
            counted = await self._counted(tenant, path, incoming, warn)
            return await _to_the_end(self._keep(tenant, incoming, path, counted))

    def _turn(self, tenant: str, digest: str) -> asyncio.Lock:
        return self._turns.setdefault((tenant, digest.removeprefix("sha256:")), asyncio.Lock())

    async def _known(self, tenant: str, incoming: Incoming) -> Dataset | None:
        """What the tenant has of these bytes under this name; nothing is received or checked again for another name."""

        def look(session: Session) -> tuple[Dataset | None, Dataset | None]:
            owned = dataset_rows.owned(session, tenant, incoming.sha256) is not None
            digest = f"sha256:{incoming.sha256}"
            return (
                dataset_rows.same(session, tenant, incoming),
                dataset_rows.find(session, tenant, digest) if owned else None,
            )

        same, earlier = await self._database.read(look)
        # A tenant's own row: `committed` told the client that its bytes are complete.
        if earlier is None or not await self._files.holds(incoming.sha256):
            return None
        if same is not None or (incoming.format is not None and incoming.format is not earlier.format):
            return same
        counted = Counted(
            earlier.format, earlier.rows, earlier.tokens, earlier.max_row_tokens, earlier.supervised_tokens
        )
        return await self._listed(tenant, incoming, counted)

    async def _received(self, tenant: str, incoming: Incoming, chunks: AsyncIterable[Chunk]) -> Path:
        """Take the chunks, unless all came with an earlier call.  After DISK_FULL nothing half-written remains."""
        arrived = self._files.received(tenant, incoming.sha256)
        if arrived.exists() and arrived.stat().st_size == incoming.size_bytes:
            return arrived
        try:
            committed, _ = await self._files.committed(tenant, incoming.sha256)
            await self._blocking(require_space, arrived.parent, incoming.size_bytes - committed, "the datasets")
            await receive(chunks, arrived, incoming.size_bytes, incoming.sha256, incoming.offset_bytes)
        except Failure as failure:
            if failure.reason is Reason.DISK_FULL:
                partial_path(arrived).unlink(missing_ok=True)
            raise
        return arrived

    async def _counted(self, tenant: str, path: Path, incoming: Incoming, warn: Say) -> Counted:
        """Check what is here.  What cannot be trained on is not kept; what could not be checked yet is."""
        try:
            with self._lists.writing(tenant, incoming.sha256) as problems:

                def hear(said: Sequence[Problem]) -> None:
                    problems.take(said)
                    warn(said)

                found = await self._checker.count(tenant, path, incoming.format, hear)
            if isinstance(found, Flawed):
                raise _malformed(found, incoming.sha256)
        except Failure as failure:
            if failure.reason in (Reason.DATASET_MALFORMED, Reason.DATASET_UNCHECKED):
                # Nobody lists these bytes: an upload of listed ones is answered from their row.
                await self._blocking(partial(path.unlink, missing_ok=True))
            raise
        if not problems.count:
            self._lists.drop(tenant, incoming.sha256)
        return found

    async def _keep(self, tenant: str, incoming: Incoming, path: Path, counted: Counted) -> Dataset:
        for _ in range(_ATTEMPTS):
            await self._files.keep(path, incoming.sha256)
            stored = await self._listed(tenant, incoming, counted)
            if stored is not None:
                await self._blocking(partial(path.unlink, missing_ok=True))
                return stored
        raise Failure(Reason.UPLOAD_IN_PROGRESS, retry_after_seconds=1.0)

    async def _listed(self, tenant: str, incoming: Incoming, counted: Counted) -> Dataset | None:
        """Write the row, if the bytes are still there when nobody else can take them."""

        def change(session: Session) -> Dataset | None:
            dataset_rows.hold(session, incoming.sha256)
            if not self._files.holds_now(incoming.sha256):
                return None
            return dataset_rows.add(session, tenant, incoming, counted, self._now().timestamp())

        return await self._database.write(change)

    async def committed(self, tenant: str, sha256: str) -> tuple[int, bool]:
        """How many bytes of an upload are durable, and whether it is complete."""
        return await self._files.committed(tenant, sha256)

    async def get(self, tenant: str, name: str) -> Dataset:
        """Find by name, name@version or digest.  Raises DATASET_NOT_FOUND."""
        return await self._database.read(lambda session: dataset_rows.find(session, tenant, name))

    async def page(self, tenant: str, size: int, after: tuple[float, str] | None) -> list[Dataset]:
        """At most `size` versions, newest first, from behind `after` (creation time, key)."""
        return await self._database.read(lambda session: dataset_rows.page(session, tenant, size, after))

    async def validate(
        self, tenant: str, name: str, validation: str, base: str, asked: Asked
    ) -> tuple[Dataset, str, Report, list[Problem], int]:
        """Check a dataset as a job would train on it: the dataset, the base's name, the report, problems, their number.

        Of the problems the first 1000; `problems` has all.  `validation` names a dataset to compare with, or is empty.
        Raises DATASET_NOT_FOUND, DATASET_UNCHECKED, NOT_READY, BASE_NOT_FOUND.
        """
        dataset, path = await self._readable(tenant, name)
        other: Path | None = None
        if validation:
            held_out, other = await self._readable(tenant, validation)
            if held_out.format is not dataset.format:
                problem = f"{validation} is {held_out.format}, {name} is {dataset.format}; give one of the same format"
                raise Failure(Reason.FIELD_INVALID, field="validation_dataset", problem=problem)
            # With a dataset of their own no rows are held out.
            asked = replace(asked, validation_ratio=0.0)
        async with self._bases.folder(base) as (base_name, folder):
            try:
                with self._lists.writing(tenant, dataset.digest) as problems:
                    report = await self._checker.inspect(tenant, folder, path, other, asked, problems.take)
            except FileNotFoundError as error:
                # Deleted meanwhile.
                raise Failure(Reason.DATASET_NOT_FOUND, name=name) from error
        return dataset, base_name, report, problems.first, problems.count

    async def described(self, tenant: str, name: str) -> tuple[Dataset, frozenset[str], int]:
        """A dataset, the fields that its records have (none of another format), and how many labels its answers are.

        The latter is 0 where they are none.  Raises DATASET_NOT_FOUND, DATASET_UNCHECKED, NOT_READY.
        """
        dataset = await self.get(tenant, name)
        if dataset.format not in _ANSWERING:
            return dataset, frozenset(), 0
        _, path = await self._readable(tenant, name)
        try:
            return dataset, *await self._checker.fields(tenant, path)
        except FileNotFoundError as error:
            raise Failure(Reason.DATASET_NOT_FOUND, name=name) from error

    async def preview(
        self, tenant: str, name: str, base: str, asked: Asked, offset: int, rows: int
    ) -> tuple[list[PreviewRow], int]:
        """Rows as they are trained on, and the offset of the next one.  Raises what `validate` raises."""
        _, path = await self._readable(tenant, name)
        async with self._bases.folder(base) as (_, folder):
            try:
                return await self._checker.preview(tenant, folder, path, asked, offset, rows)
            except FileNotFoundError as error:
                raise Failure(Reason.DATASET_NOT_FOUND, name=name) from error

    async def problems(self, tenant: str, name: str, size: int, place: str) -> tuple[list[Problem], str]:
        """A page of all that the newest check said, also of a file that was refused, by its digest (`ProblemLists.page`).

        Raises DATASET_NOT_FOUND, DATASET_REPORT_NOT_FOUND, PAGE_TOKEN_INVALID.
        """
        digest = name if name.startswith("sha256:") else (await self.get(tenant, name)).digest
        return await asyncio.to_thread(self._lists.page, tenant, digest, size, place)

    async def _readable(self, tenant: str, name: str) -> tuple[Dataset, Path]:
        dataset = await self.get(tenant, name)
        return dataset, await self._files.file(dataset.digest)

    async def delete(self, tenant: str, name: str) -> None:
        """Remove a version, and its bytes when nobody lists them.  Raises DATASET_NOT_FOUND, DATASET_IN_USE."""
        dataset = await self.get(tenant, name)
        async with self._turn(tenant, dataset.digest):
            # The very version that was meant, also when a newer one came meanwhile.
            await _to_the_end(self._delete(tenant, f"{dataset.dataset}@{dataset.version}"))

    async def _delete(self, tenant: str, name: str) -> None:
        digest = await self._database.write(lambda session: dataset_rows.remove(session, tenant, name))
        # The row went first: a kill in between leaves bytes that nobody lists, never a row without bytes.
        await self._files.drop([digest.removeprefix("sha256:")])

    async def sweep(self, before: float) -> int:
        """Remove what nobody lists and nobody touched since `before` (Unix seconds); return how many files went.

        That is: partial uploads, received files that were never checked to the end, lists of problems, and stored
        bytes without a row.
        """
        old = await asyncio.to_thread(self._files.uploads_untouched, before)
        gone = sum([await self._drop(path) for path in old])
        gone += await asyncio.to_thread(self._lists.sweep, before)
        return gone + await self._files.sweep(before)

    async def _drop(self, path: Path) -> bool:
        turn = self._turn(path.parent.name, path.name.removesuffix(".partial"))
        if turn.locked():
            return False
        async with turn:
            await self._blocking(partial(path.unlink, missing_ok=True))
            return True


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end even when the caller is cancelled; the cancellation then comes after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _malformed(flawed: Flawed, sha256: str) -> Failure:
    first = flawed.problems[0]
    rows = "1 row is bad" if flawed.count == 1 else f"{flawed.count} rows are bad"
    return Failure(
        Reason.DATASET_MALFORMED,
        violations=[Violation(_place(problem), problem.message) for problem in flawed.problems],
        count=flawed.count,
        line=first.line,
        problem=first.message,
        sha256=sha256,
        what=first.message if first.whole else f"{rows}; line {first.line}: {first.message}",
    )


def _place(problem: Problem) -> str:
    """Where in a file a problem is: line 7, completion."""
    if problem.whole:
        return "file"
    return f"line {problem.line}" + (f", {problem.field}" if problem.field else "")
