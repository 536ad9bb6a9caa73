"""Datasets of a tenant: received in pieces, checked row by row, stored by digest, never changed.

Invariants: a dataset that is listed was checked whole, and its bytes were on disk
before its row was; receiving, checking, storing and deleting the same bytes of a tenant
never overlap; bytes that nobody lists do not stay.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import or_, select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason, Violation
from services.chassis.files import publish, require_space
from services.chassis.streams import Chunk, committed_bytes, partial_path, receive
from services.trainer.data import rows
from services.trainer.data.checker import Checker
from services.trainer.data.checking import Counted, Flawed
from services.trainer.job import State
from services.trainer.store import DatasetRow, JobRow

T = TypeVar("T")

_UNFINISHED = tuple(state.value for state in State if not state.finished)


@dataclass(frozen=True, slots=True)
class Dataset:
    """One stored dataset.  Tokens are counted under the default base's chat template."""

    dataset: str
    digest: str
    filename: str
    format: rows.Format
    rows: int
    size_bytes: int
    tokens: int
    max_row_tokens: int
    supervised_tokens: int
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Incoming:
    """What an uploader announces.  `dataset` empty: named after the file."""

    dataset: str
    filename: str
    size_bytes: int
    sha256: str
    offset_bytes: int
    format: rows.Format | None


class Datasets:
    """The verbs on datasets.  `checker` reads what was uploaded, elsewhere."""

    def __init__(
        self,
        database: Database,
        *,
        stored: Path,
        uploads: Path,
        max_bytes: int,
        checker: Checker,
        blocking: Callable[..., Awaitable[object]],
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._stored = stored
        self._uploads = uploads
        self._max_bytes = max_bytes
        self._checker = checker
        self._blocking = blocking
        self._now = now
        # One for each tenant and digest that somebody is about: held by whoever changes the row or the bytes.
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def path(self, tenant: str, digest: str) -> Path:
        """Where the bytes of a dataset lie."""
        return self._stored / tenant / digest.removeprefix("sha256:")

    async def upload(self, tenant: str, incoming: Incoming, chunks: AsyncIterable[Chunk]) -> Dataset:
        """Receive, check and store.

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
            # Bytes that are here are not sent again: `committed` told the client that they are complete.
            place = self.path(tenant, incoming.sha256)
            known = _holds(place, incoming)
            if known and (same := await self._database.read(lambda session: _same(session, tenant, incoming))):
                return same
            path = place if known else await self._received(tenant, incoming, chunks)
            counted = await self._counted(tenant, path, incoming)
            return await _to_the_end(self._keep(tenant, incoming, path, counted))

    def _turn(self, tenant: str, digest: str) -> asyncio.Lock:
        return self._turns.setdefault((tenant, digest.removeprefix("sha256:")), asyncio.Lock())

    async def _received(self, tenant: str, incoming: Incoming, chunks: AsyncIterable[Chunk]) -> Path:
        """Take the chunks, unless all came with an earlier call.  After DISK_FULL nothing half-written remains."""
        arrived = self._upload(tenant, incoming.sha256)
        if _holds(arrived, incoming):
            return arrived
        try:
            missing_bytes = incoming.size_bytes - committed_bytes(arrived)
            await self._blocking(require_space, arrived.parent, missing_bytes, "the datasets")
            await receive(chunks, arrived, incoming.size_bytes, incoming.sha256, incoming.offset_bytes)
        except Failure as failure:
            if failure.reason is Reason.DISK_FULL:
                partial_path(arrived).unlink(missing_ok=True)
            raise
        return arrived

    async def _counted(self, tenant: str, path: Path, incoming: Incoming) -> Counted:
        """Check what is here.  What cannot be trained on is not kept; what could not be checked yet is."""
        try:
            found = await self._checker.count(tenant, path, incoming.format)
            if isinstance(found, Flawed):
                raise _malformed(found)
        except Failure as failure:
            if failure.reason in (Reason.DATASET_MALFORMED, Reason.DATASET_UNCHECKED):
                # Nobody lists these bytes: an upload of listed ones is answered from their row.
                await self._blocking(path.unlink, missing_ok=True)
            raise
        return found

    async def _keep(self, tenant: str, incoming: Incoming, path: Path, counted: Counted) -> Dataset:
        place = self.path(tenant, incoming.sha256)
        if path != place:
            place.parent.mkdir(parents=True, exist_ok=True)
            await self._blocking(publish, path, place)
        return await self._database.write(lambda session: self._add(session, tenant, incoming, counted))

    async def committed(self, tenant: str, sha256: str) -> tuple[int, bool]:
        """How many bytes of an upload are durable, and whether it is complete."""
        for place in (self.path(tenant, sha256), self._upload(tenant, sha256)):
            if place.exists():
                return place.stat().st_size, True
        return committed_bytes(self._upload(tenant, sha256)), False

    async def get(self, tenant: str, name: str) -> Dataset:
        """Find by id or digest.  Raises DATASET_NOT_FOUND."""
        return await self._database.read(lambda session: find(session, tenant, name))

    async def page(self, tenant: str, size: int, after: tuple[float, str] | None) -> list[Dataset]:
        """At most `size` datasets, newest first, from behind `after` (creation time, id)."""
        query = select(DatasetRow).where(DatasetRow.tenant == tenant)
        key = tuple_(DatasetRow.created_at, DatasetRow.dataset)
        if after is not None:
            query = query.where(key < after)
        query = query.order_by(DatasetRow.created_at.desc(), DatasetRow.dataset.desc()).limit(size)
        return await self._database.read(lambda session: [_dataset(row) for row in session.scalars(query)])

    async def problems(self, tenant: str, name: str, max_row_tokens: int) -> tuple[Dataset, list[rows.Problem]]:
        """Check again, with a length limit: longer rows are warnings.

        Raises DATASET_NOT_FOUND, DATASET_UNCHECKED, NOT_READY.
        """
        dataset = await self.get(tenant, name)
        try:
            found = await self._checker.warnings(tenant, self.path(tenant, dataset.digest), max_row_tokens)
        except FileNotFoundError as error:
            # Deleted meanwhile.
            raise Failure(Reason.DATASET_NOT_FOUND, name=name) from error
        return dataset, found

    async def delete(self, tenant: str, name: str) -> None:
        """Remove row and bytes.  Raises DATASET_NOT_FOUND, DATASET_IN_USE."""
        digest = (await self.get(tenant, name)).digest
        async with self._turn(tenant, digest):
            await _to_the_end(self._delete(tenant, digest))

    async def _delete(self, tenant: str, digest: str) -> None:
        await self._database.write(lambda session: _remove(session, tenant, digest))
        # The row went first: a kill in between leaves bytes that nobody lists, never a row without bytes.
        self.path(tenant, digest).unlink(missing_ok=True)

    async def sweep(self, before: float) -> int:
        """Remove what nobody lists and nobody touched since `before` (Unix seconds); return how many files went.

        That is: partial uploads, received files that were never checked to the end, and stored bytes without a row.
        """
        old = await self._blocking(_untouched, (self._uploads, self._stored), before)
        assert isinstance(old, list)
        return sum([await self._drop(path) for path in old])

    async def _drop(self, path: Path) -> bool:
        tenant, digest = path.parent.name, path.name.removesuffix(".partial")
        turn = self._turn(tenant, digest)
        if turn.locked():
            return False
        async with turn:
            listed = await self._database.read(lambda session: _by_digest(session, tenant, digest) is not None)
            if listed and path.is_relative_to(self._stored):
                return False
            await self._blocking(path.unlink, missing_ok=True)
            return True

    def _upload(self, tenant: str, sha256: str) -> Path:
        return self._uploads / tenant / sha256

    def _add(self, session: Session, tenant: str, incoming: Incoming, counted: Counted) -> Dataset:
        if same := _same(session, tenant, incoming):
            return same
        name = incoming.dataset or _slug(incoming.filename)
        if session.get(DatasetRow, (tenant, name)) is not None:
            name = f"{name[:54]}-{incoming.sha256[:8]}"
        row = DatasetRow(
            tenant=tenant,
            dataset=name,
            digest=f"sha256:{incoming.sha256}",
            filename=incoming.filename,
            format=counted.format.value,
            rows=counted.rows,
            size_bytes=incoming.size_bytes,
            tokens=counted.tokens,
            max_row_tokens=counted.max_row_tokens,
            supervised_tokens=counted.supervised_tokens,
            created_at=self._now().timestamp(),
        )
        session.add(row)
        session.flush()
        return _dataset(row)


def _same(session: Session, tenant: str, incoming: Incoming) -> Dataset | None:
    """The tenant's dataset of these very bytes."""
    row = _by_digest(session, tenant, incoming.sha256)
    return None if row is None else _dataset(row)


def _by_digest(session: Session, tenant: str, sha256: str) -> DatasetRow | None:
    digest = f"sha256:{sha256}"
    return session.scalar(select(DatasetRow).where(DatasetRow.tenant == tenant, DatasetRow.digest == digest))


def _holds(path: Path, incoming: Incoming) -> bool:
    """Whether all bytes that are announced lie at `path`."""
    return path.exists() and path.stat().st_size == incoming.size_bytes


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end even when the caller is cancelled; the cancellation then comes after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _untouched(folders: tuple[Path, ...], before: float) -> list[Path]:
    found = []
    for folder in folders:
        for path in folder.glob("*/*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    found.append(path)
    return found


def find(session: Session, tenant: str, name: str, *, for_use: bool = False) -> Dataset:
    """Return the tenant's dataset by id or digest.  Raises DATASET_NOT_FOUND.

    `for_use`: nobody deletes it before the transaction ends, so that a job which begins to use it is seen.
    """
    return _dataset(_row(session, tenant, name, held=for_use))


def _malformed(flawed: Flawed) -> Failure:
    first = flawed.problems[0]
    violations = [
        Violation(f"line {problem.line}" + (f", {problem.field}" if problem.field else ""), problem.message)
        for problem in flawed.problems
    ]
    return Failure(
        Reason.DATASET_MALFORMED, violations=violations, count=flawed.count, line=first.line, problem=first.message
    )


def _remove(session: Session, tenant: str, name: str) -> str:
    row = _row(session, tenant, name, held=True)
    user = session.scalar(
        select(JobRow.job).where(
            JobRow.tenant == tenant,
            or_(JobRow.dataset_digest == row.digest, JobRow.validation_digest == row.digest),
            JobRow.state.in_(_UNFINISHED),
        )
    )
    if user is not None:
        raise Failure(Reason.DATASET_IN_USE, name=row.dataset, user=f"job {user}")
    session.delete(row)
    return row.digest


def _row(session: Session, tenant: str, name: str, *, held: bool = False) -> DatasetRow:
    column = DatasetRow.digest if name.startswith("sha256:") else DatasetRow.dataset
    query = select(DatasetRow).where(DatasetRow.tenant == tenant, column == name)
    # Where there is no such lock (SQLite), there is one writer at a time.
    row = session.scalar(query.with_for_update() if held else query)
    if row is None:
        raise Failure(Reason.DATASET_NOT_FOUND, name=name)
    return row


def _dataset(row: DatasetRow) -> Dataset:
    return Dataset(
        dataset=row.dataset,
        digest=row.digest,
        filename=row.filename,
        format=rows.Format(row.format),
        rows=row.rows,
        size_bytes=row.size_bytes,
        tokens=row.tokens,
        max_row_tokens=row.max_row_tokens,
        supervised_tokens=row.supervised_tokens,
        create_time=datetime.fromtimestamp(row.created_at, UTC),
    )


def _slug(filename: str) -> str:
    """Return a valid id made of a file name: its stem, lower-cased."""
    stem = re.sub(r"[^a-z0-9.-]+", "-", filename.lower().rsplit("/", 1)[-1].removesuffix(".jsonl")).strip(".-")
    return stem[:63].strip(".-") or f"dataset-{hashlib.sha256(filename.encode()).hexdigest()[:8]}"
