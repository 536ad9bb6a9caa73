"""From markers in an answer to characters of a document version.

Invariant: a citation always has a source behind it.  A marker that names none is reported
as unresolved and is never presented as a citation (promise 9).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.generation import SourceSpan
from services.chassis.sources_prompt import MARKED

# What a source can never hold: its own are defused by the same shape.
MARKER = re.compile(rf"\[{MARKED}\]", re.ASCII)
# What may still become one.
OPENED = re.compile(r"\[[0-9,; ]*")
# What would become one by what is written behind it.
_HALF = re.compile(rf"{OPENED.pattern}$")
_NUMBER = re.compile(r"[0-9]+")
# So that a number always fits the wire's int32.
_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker at [answer_start, answer_end) of the answer, in code points, and what it points at."""

    marker: int
    answer_start: int
    answer_end: int
    span: SourceSpan


@dataclass(frozen=True, slots=True)
class Verified:
    """Citations in the order of the answer, and the numbers that name no source, each once."""

    citations: tuple[Citation, ...]
    unresolved_markers: tuple[int, ...]


def numbers(marker: str) -> list[int]:
    """The numbers inside one pair of brackets; longer ones than any marker has are left out."""
    return [int(digits) for digits in _NUMBER.findall(marker) if len(digits) <= _MOST_DIGITS]


def unmarked(text: str) -> str:
    """A source's words as an answer may take them over: what they write like a marker stands in round brackets."""
    plain = MARKER.sub(lambda marker: f"({marker.group()[1:-1]})", text)
    return _HALF.sub(lambda half: f"({half.group()[1:]}", plain)


def verify(answer: str, sources: Sequence[SourceSpan]) -> Verified:
    """Resolve every ``[n]`` and ``[n, m]`` of ``answer`` against the sources that stood in its prompt."""
    by_marker = {span.marker: span for span in sources}
    citations: list[Citation] = []
    unresolved: dict[int, None] = {}
    for found in MARKER.finditer(answer):
        for marker in numbers(found.group()):
            span = by_marker.get(marker)
            if span is None:
                unresolved[marker] = None
            else:
                citations.append(Citation(marker, found.start(), found.end(), span))
    return Verified(tuple(citations), tuple(unresolved))
