"""What is said of a whole collection: exact counts, and summaries with their citations.  As `nouns`."""

from dataclasses import dataclass
from typing import Any

from trivium_client.document_nouns import Span


@dataclass(frozen=True, slots=True)
class Citation:
    """Characters of a document version, exactly."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class MatchingDocument:
    """A document that counts, with the passages of it that do.

    `first` are the first characters that are one of the keywords, None without keywords; `passage` is where the
    passage stands that they are in.
    """

    document: str
    version: str
    title: str
    passages: int
    first: Citation | None
    passage: Span | None


@dataclass(frozen=True, slots=True)
class Group:
    """Documents with the same value of their metadata; None is of those that lack the field."""

    value: Any
    documents: int
    passages: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Exact counts: `documents` of the `searched` ones count, with so many `passages`; `words` were looked for."""

    documents: int
    passages: int
    searched: int
    groups: tuple[Group, ...]
    groups_total: int
    words: tuple[str, ...]
