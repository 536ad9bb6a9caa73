"""Datasets of a tenant: received in pieces, checked row by row, stored by digest, never changed.

Invariant: a dataset that is listed was checked whole, and its bytes were on disk
before its row was.
"""

import hashlib
import re
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason, Violation
from services.chassis.files import publish
from services.chassis.streams import Chunk, committed_bytes, receive
from services.trainer import rows
from services.trainer.examples import Encoder
from services.trainer.job import State
from services.trainer.store import DatasetRow, JobRow

# A person mends the first few and runs again; more would only be scrolled past.
MAX_NAMED_PROBLEMS = 20
MAX_REPORTED_PROBLEMS = 1000
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


@dataclass(frozen=True, slots=True)
class _Counted:
    format: rows.Format
    rows: int
    tokens: int
    max_row_tokens: int
    supervised_tokens: int


class Datasets:
    """The verbs on datasets.  `encoder` gives the default base's encoder, loaded once."""

    def __init__(
        self,
        database: Database,
        *,
        stored: Path,
        uploads: Path,
        max_bytes: int,
        encoder: Callable[[], Awaitable[Encoder]],
        blocking: Callable[..., Awaitable[object]],
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._stored = stored
        self._uploads = uploads
        self._max_bytes = max_bytes
        self._encoder = encoder
        self._blocking = blocking
        self._now = now
        self._growing: set[Path] = set()

    def path(self, tenant: str, digest: str) -> Path:
        """Where the bytes of a dataset lie."""
        return self._stored / tenant / digest.removeprefix("sha256:")

    async def upload(self, tenant: str, incoming: Incoming, chunks: AsyncIterable[Chunk]) -> Dataset:
        """Receive, check and store.  Raises DATASET_MALFORMED (naming lines), DATASET_TOO_LARGE and what receiving raises."""
        if incoming.size_bytes > self._max_bytes:
            raise Failure(Reason.DATASET_TOO_LARGE, size_bytes=incoming.size_bytes, limit_bytes=self._max_bytes)
        place = self.path(tenant, incoming.sha256)
        # Bytes that are here are not sent again: `committed` told the client that they are complete.
        known = place.exists() and place.stat().st_size == incoming.size_bytes
        if known and (same := await self._database.read(lambda session: _same(session, tenant, incoming))):
            return same
        arrived = place if known else await self._receive(tenant, incoming, chunks)
        encoder = await self._encoder()
        try:
            counted = await self._blocking(check, arrived, encoder, incoming.format)
        except Failure:
            arrived.unlink(missing_ok=True)
            raise
        assert isinstance(counted, _Counted)
        if not known:
            place.parent.mkdir(parents=True, exist_ok=True)
            await self._blocking(publish, arrived, place)
        return await self._database.write(lambda session: self._add(session, tenant, incoming, counted))

    async def _receive(self, tenant: str, incoming: Incoming, chunks: AsyncIterable[Chunk]) -> Path:
        target = self._upload(tenant, incoming.sha256)
        if target in self._growing:
            # Two writers of one file would each spoil what the other wrote.
            raise Failure(Reason.UPLOAD_IN_PROGRESS, retry_after_seconds=1.0)
        self._growing.add(target)
        try:
            received = await receive(chunks, target, incoming.size_bytes, incoming.sha256, incoming.offset_bytes)
        finally:
            self._growing.discard(target)
        return received.path

    async def committed(self, tenant: str, sha256: str) -> tuple[int, bool]:
        """How many bytes of an upload are durable, and whether it is complete."""
        place = self.path(tenant, sha256)
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
        """Check again, with a length limit: longer rows are warnings.  Raises DATASET_NOT_FOUND."""
        dataset = await self.get(tenant, name)
        encoder = await self._encoder()
        found = await self._blocking(_warnings, self.path(tenant, dataset.digest), encoder, max_row_tokens)
        assert isinstance(found, list)
        return dataset, found

    async def delete(self, tenant: str, name: str) -> None:
        """Remove row and bytes.  Raises DATASET_NOT_FOUND, DATASET_IN_USE."""
        digest = await self._database.write(lambda session: _remove(session, tenant, name))
        # The row went first: a kill in between leaves bytes that nobody lists, never a row without bytes.
        self.path(tenant, digest).unlink(missing_ok=True)

    def _upload(self, tenant: str, sha256: str) -> Path:
        return self._uploads / tenant / sha256

    def _add(self, session: Session, tenant: str, incoming: Incoming, counted: _Counted) -> Dataset:
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
    digest = f"sha256:{incoming.sha256}"
    row = session.scalar(select(DatasetRow).where(DatasetRow.tenant == tenant, DatasetRow.digest == digest))
    return None if row is None else _dataset(row)


def find(session: Session, tenant: str, name: str) -> Dataset:
    """Return the tenant's dataset by id or digest.  Raises DATASET_NOT_FOUND."""
    row = _row(session, tenant, name)
    return _dataset(row)


def check(path: Path, encoder: Encoder, expected: rows.Format | None) -> _Counted:
    """Read every row of `path` and count its tokens.  Raises DATASET_MALFORMED with the first problems, by line."""
    problems: list[rows.Problem] = []
    lengths: list[int] = []
    supervised = 0
    bad = 0
    with path.open("rb") as lines:
        for row in rows.read(lines, expected):
            if isinstance(row, rows.Problem):
                bad += 1
                problems.extend([row] if bad <= MAX_NAMED_PROBLEMS else [])
            elif not bad:
                example = encoder.encode(row.turns)
                lengths.append(len(example.tokens))
                supervised += example.supervised_tokens
    if not bad and not lengths:
        problems = [rows.Problem(1, "", "the file holds no row; write one JSON object a line")]
    if problems:
        raise _malformed(problems, max(bad, 1))
    return _Counted(_format(path, expected), len(lengths), sum(lengths), max(lengths), supervised)


def _format(path: Path, expected: rows.Format | None) -> rows.Format:
    with path.open("rb") as lines:
        recognised = next((found for line in lines if (found := rows.recognise(line))), None)
    return expected or recognised or rows.Format.CHAT


def _malformed(problems: list[rows.Problem], count: int) -> Failure:
    first = problems[0]
    violations = [
        Violation(f"line {problem.line}" + (f", {problem.field}" if problem.field else ""), problem.message)
        for problem in problems
    ]
    return Failure(Reason.DATASET_MALFORMED, violations=violations, count=count, line=first.line, problem=first.message)


def _warnings(path: Path, encoder: Encoder, max_row_tokens: int) -> list[rows.Problem]:
    found: list[rows.Problem] = []
    with path.open("rb") as lines:
        for row in rows.read(lines):
            if len(found) >= MAX_REPORTED_PROBLEMS:
                break
            if isinstance(row, rows.Problem):
                found.append(row)
                continue
            length = len(encoder.encode(row.turns).tokens)
            if max_row_tokens and length > max_row_tokens:
                text = f"the row has {length} tokens, over {max_row_tokens}; it will be cut unless max_row_tokens is raised"
                found.append(rows.Problem(row.line, "", text, fatal=False))
    return found


def _remove(session: Session, tenant: str, name: str) -> str:
    row = _row(session, tenant, name)
    user = session.scalar(
        select(JobRow.job).where(
            JobRow.tenant == tenant, JobRow.dataset_digest == row.digest, JobRow.state.in_(_UNFINISHED)
        )
    )
    if user is not None:
        raise Failure(Reason.DATASET_IN_USE, name=row.dataset, user=f"job {user}")
    session.delete(row)
    return row.digest


def _row(session: Session, tenant: str, name: str) -> DatasetRow:
    column = DatasetRow.digest if name.startswith("sha256:") else DatasetRow.dataset
    row = session.scalar(select(DatasetRow).where(DatasetRow.tenant == tenant, column == name))
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
