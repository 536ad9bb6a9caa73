"""What a summary says: statements, each with the characters that it says it of.

Invariant: a citation is of characters inside a chunk, so it stays right where an edit
elsewhere in the document moves the chunk.
"""

import json
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """Who words the statements."""

    # Sentences as they are written.
    EXTRACTIVE = "extractive"
    # The generator, from such sentences.
    ABSTRACTIVE = "abstractive"


@dataclass(frozen=True, slots=True)
class Quote:
    """Characters [start, end) of a chunk's text."""

    chunk: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A text, and what it says it of; ``generated`` where it is not the first quote's own."""

    text: str
    quotes: tuple[Quote, ...]
    generated: bool = False


def encoded(statements: tuple[Statement, ...]) -> str:
    """Statements as JSON."""
    return json.dumps([[it.text, [[q.chunk, q.start, q.end] for q in it.quotes], it.generated] for it in statements])


def decoded(text: str) -> tuple[Statement, ...]:
    """Statements from :func:`encoded`."""
    return tuple(
        Statement(words, tuple(Quote(*quote) for quote in quotes), generated)
        for words, quotes, generated in json.loads(text)
    )
