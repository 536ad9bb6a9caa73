"""What reading from elsewhere comes to, whatever it is read from."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Remembered:
    """What tells next time whether an object has changed; empty or -1 where nobody said."""

    etag: str = ""
    modified: str = ""
    size_bytes: int = -1


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object's bytes, its media type as its keeper says (may be empty), and what to remember."""

    content: bytes
    media_type: str
    remembered: Remembered


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The object is as it is remembered."""


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such object any more."""

    problem: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of a source.  ``uri`` is its document's id; ``remembered`` is None where only fetching tells."""

    uri: str
    remembered: Remembered | None


class Place(Protocol):
    """A source, opened for one tenant."""

    def pages(self) -> AsyncIterator[Sequence[Listed]]:
        """Its objects.  Raises SOURCE_UNREADABLE and SOURCE_AWAY."""

    async def read(self, listed: Listed, known: Remembered | None) -> Fetched | Unchanged | Gone:
        """One object, unless it is as ``known``.  Raises SOURCE_NOT_ALLOWED, SOURCE_UNREADABLE and SOURCE_AWAY."""
