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


@dataclass(frozen=True, slots=True)
class Statement:
    """Something that is said of a collection, and of what; `generated` where the generator worded it."""

    text: str
    citations: tuple[Citation, ...]
    generated: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """Statements, the most telling first, made from `chunks_read` of the `chunks` that you may read (`coverage`).

    `nodes_computed` of the summary tree were computed for it, `nodes_reused` were there; `generator_digest` is empty
    where the generator was not asked.
    """

    text: str
    statements: tuple[Statement, ...]
    coverage: float
    chunks_read: int
    chunks: int
    nodes_computed: int
    nodes_reused: int
    embedding_digest: str
    generator_digest: str
