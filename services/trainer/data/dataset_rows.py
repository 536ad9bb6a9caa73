"""The rows that remember datasets: names, their versions, and which bytes each one is.

Invariants: a version never changes and its number is never given again; a name alone means the newest version, which
is what was uploaded last; and whoever decides by what rows say of some bytes has the turn of these bytes.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import take_turn
from services.chassis.errors import Failure, Reason
from services.trainer.data.checking import Counted
from services.trainer.data.rows import Format
from services.trainer.job import State
from services.trainer.store import DatasetNameRow, DatasetRow, JobRow

_UNFINISHED = tuple(state.value for state in State if not state.finished)
_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One version of a dataset.  Tokens are counted under the default base's chat template."""

    dataset: str
    version: int
    digest: str
    filename: str
    format: Format
    rows: int
    size_bytes: int
    tokens: int
    max_row_tokens: int
    supervised_tokens: int
    create_time: datetime

    @property
    def key(self) -> str:
        """What names this version and no other: the name alone is the first one's."""
        return _key(self.dataset, self.version)

    @property
    def version_name(self) -> str:
        """What finds this version also when there is a newer one."""
        return f"{self.dataset}@{self.version}"


@dataclass(frozen=True, slots=True)
class Incoming:
    """What an uploader announces.  `dataset` empty: named after the file."""

    dataset: str
    filename: str
    size_bytes: int
    sha256: str
    offset_bytes: int
    format: Format | None


def find(session: Session, tenant: str, name: str, *, for_use: bool = False) -> Dataset:
    """Return the tenant's dataset by name (the newest version), name@version or digest.  Raises DATASET_NOT_FOUND.

    `for_use`: nobody deletes it before the transaction ends, so that a job which begins to use it is seen.
    """
    return _dataset(_row(session, tenant, name, locked=for_use))


def page(session: Session, tenant: str, size: int, after: tuple[float, str] | None) -> list[Dataset]:
    """At most `size` versions, newest first, from behind `after` (creation time, key)."""
    query = select(DatasetRow).where(DatasetRow.tenant == tenant)
    if after is not None:
        query = query.where(tuple_(DatasetRow.created_at, DatasetRow.dataset) < after)
    query = query.order_by(DatasetRow.created_at.desc(), DatasetRow.dataset.desc()).limit(size)
    return [_dataset(row) for row in session.scalars(query)]


def same(session: Session, tenant: str, incoming: Incoming) -> Dataset | None:
    """The tenant's dataset that an upload of these bytes is, when it is there already.

    That is the newest version of its name, under the name that is asked for if one is.
    """
    for row in _of_bytes(session, tenant, incoming):
        newest = session.scalar(_newest_first(tenant, row.name).limit(1))
        if newest is not None and newest.digest == row.digest and incoming.dataset in ("", row.name):
            return _dataset(newest)
    return None


def owned(session: Session, tenant: str, sha256: str) -> int | None:
    """How many bytes the tenant's dataset of this digest has; None when the tenant has none."""
    row = session.scalar(_of_digest(sha256).where(DatasetRow.tenant == tenant).limit(1))
    return None if row is None else row.size_bytes


def add(session: Session, tenant: str, incoming: Incoming, counted: Counted, created_at: float) -> Dataset:
    """Add a version of the name that is announced, unless `same` finds one.

    Bytes that an older version is become the newest version of its name again.
    """
    if (found := same(session, tenant, incoming)) is not None:
        return found
    earlier = next(iter(_of_bytes(session, tenant, incoming)), None)
    name = incoming.dataset or (earlier.name if earlier is not None else slug(incoming.filename))
    version = _next_version(session, tenant, name)
    row = DatasetRow(
        tenant=tenant,
        dataset=_key(name, version),
        name=name,
        version=version,
        digest=f"sha256:{incoming.sha256}",
        filename=incoming.filename,
        format=counted.format.value,
        rows=counted.rows,
        size_bytes=incoming.size_bytes,
        tokens=counted.tokens,
        max_row_tokens=counted.max_row_tokens,
        supervised_tokens=counted.supervised_tokens,
        created_at=created_at,
    )
    session.add(row)
    session.flush()
    return _dataset(row)


def remove(session: Session, tenant: str, name: str) -> str:
    """Remove a version; return the digest of its bytes.  Raises DATASET_NOT_FOUND, DATASET_IN_USE."""
    row = _row(session, tenant, name, locked=True)
    versions = session.scalar(
        select(func.count()).select_from(DatasetRow).where(DatasetRow.tenant == tenant, DatasetRow.digest == row.digest)
    )
    user = session.scalar(
        select(JobRow.job).where(JobRow.tenant == tenant, _reads(row.digest), JobRow.state.in_(_UNFINISHED))
    )
    # A job reads bytes; where another version is the same ones they stay.
    if user is not None and versions == 1:
        raise Failure(Reason.DATASET_IN_USE, name=_key(row.name, row.version), user=f"job {user}")
    session.delete(row)
    return row.digest


def unlisted(session: Session, digests: list[str]) -> list[str]:
    """Those of the digests (64 hexadecimal digits) that no tenant's dataset is; holds their turns."""
    for sha256 in sorted(digests):
        hold(session, sha256)
    listed = set(
        session.scalars(select(DatasetRow.digest).where(DatasetRow.digest.in_([f"sha256:{one}" for one in digests])))
    )
    return [sha256 for sha256 in digests if f"sha256:{sha256}" not in listed]


def in_use(session: Session, sha256: str) -> bool:
    """Whether an unfinished job trains on these bytes."""
    query = select(JobRow.job).where(_reads(f"sha256:{sha256}"), JobRow.state.in_(_UNFINISHED))
    return session.scalar(query.limit(1)) is not None


def _reads(digest: str) -> ColumnElement[bool]:
    """Whether a job trains or evaluates on these bytes."""
    return or_(JobRow.dataset_digest == digest, JobRow.validation_digest == digest)


def hold(session: Session, sha256: str) -> None:
    """Have the turn of these bytes until the transaction ends."""
    take_turn(session, f"dataset {sha256}")


def slug(filename: str) -> str:
    """Return a valid name made of a file name: its stem, lower-cased."""
    stem = filename.lower().rsplit("/", 1)[-1]
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    name = re.sub(r"[^a-z0-9.-]+", "-", stem).strip(".-")[:63].strip(".-")
    return name or f"dataset-{hashlib.sha256(filename.encode()).hexdigest()[:8]}"


def _key(name: str, version: int) -> str:
    return name if version == 1 else f"{name}@{version}"


def _next_version(session: Session, tenant: str, name: str) -> int:
    take_turn(session, f"dataset name {tenant} {name}")
    last = session.get(DatasetNameRow, (tenant, name))
    if last is None:
        last = DatasetNameRow(tenant=tenant, name=name, last_version=0)
        session.add(last)
    last.last_version += 1
    return last.last_version


def _of_digest(sha256: str) -> Select[Any]:
    digest = f"sha256:{sha256.removeprefix('sha256:')}"
    order = (DatasetRow.created_at.desc(), DatasetRow.version.desc())
    return select(DatasetRow).where(DatasetRow.digest == digest).order_by(*order)


def _of_bytes(session: Session, tenant: str, incoming: Incoming) -> list[DatasetRow]:
    """The tenant's rows of these bytes, newest first; before them those that are called after this very file."""
    rows = session.scalars(_of_digest(incoming.sha256).where(DatasetRow.tenant == tenant))
    return sorted(rows, key=lambda row: row.name != slug(incoming.filename))


def _newest_first(tenant: str, name: str) -> Select[Any]:
    return (
        select(DatasetRow)
        .where(DatasetRow.tenant == tenant, DatasetRow.name == name)
        .order_by(DatasetRow.version.desc())
    )


def _row(session: Session, tenant: str, name: str, *, locked: bool = False) -> DatasetRow:
    plain, at, version = name.partition("@")
    if name.startswith("sha256:"):
        query = _of_digest(name).where(DatasetRow.tenant == tenant)
    elif at:
        number = int(version) if version.isdecimal() and len(version) < 10 else 0
        query = _newest_first(tenant, plain).where(DatasetRow.version == number)
    else:
        query = _newest_first(tenant, plain)
    query = query.limit(1)
    # Where there is no such lock (SQLite), there is one writer at a time.
    row: DatasetRow | None = session.scalar(query.with_for_update() if locked else query)
    if row is None:
        raise Failure(Reason.DATASET_NOT_FOUND, name=name)
    return row


def _dataset(row: DatasetRow) -> Dataset:
    return Dataset(
        dataset=row.name,
        version=row.version,
        digest=row.digest,
        filename=row.filename,
        format=Format(row.format),
        rows=row.rows,
        size_bytes=row.size_bytes,
        tokens=row.tokens,
        max_row_tokens=row.max_row_tokens,
        supervised_tokens=row.supervised_tokens,
        create_time=datetime.fromtimestamp(row.created_at, UTC),
    )
