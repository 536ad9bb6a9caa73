"""Places that documents are read from.  As `nouns`."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """An object that could not be stored, and why."""

    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """A URL or an S3 prefix that a collection's documents are read from.

    `state` is queued, running, ready, failed, cancelled or deleting; the counts are of objects of the reading that
    runs, else of the last one.  `readers` may read what it brings (empty: everybody of the tenant).  `failures` are the first
    hundred objects that could not be stored, where one source was asked for.
    """

    source: str
    collection: str
    uri: str
    state: str
    reason: str
    found: int
    stored: int
    unchanged: int
    failed: int
    deleted: int
    fetched_bytes: int
    prune: bool
    refresh_seconds: int
    create_time: datetime | None
    read_time: datetime | None
    due_time: datetime | None
    readers: tuple[str, ...] = ()
    failures: tuple[SourceFailure, ...] = ()

    @property
    def under_way(self) -> bool:
        """Whether it is being read or deleted, or waits for that."""
        return self.state in ("queued", "running", "deleting")
