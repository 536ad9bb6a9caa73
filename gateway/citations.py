"""From markers in an answer to characters of a document version.

Invariant: a citation always has a source behind it.  A marker that names none is reported
as unresolved and is never presented as a citation (promise 9).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.generation import SourceSpan

# Nine digits at most, so that a number always fits the wire's int32; ASCII only.
_MARKER = re.compile(r"\[([0-9]{1,9})\]")


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


def verify(answer: str, sources: Sequence[SourceSpan]) -> Verified:
    """Resolve every ``[n]`` of ``answer`` against the sources that stood in its prompt."""
    by_marker = {span.marker: span for span in sources}
    citations: list[Citation] = []
    unresolved: dict[int, None] = {}
    for found in _MARKER.finditer(answer):
        marker = int(found.group(1))
        span = by_marker.get(marker)
        if span is None:
            unresolved[marker] = None
        else:
            citations.append(Citation(marker, found.start(), found.end(), span))
    return Verified(tuple(citations), tuple(unresolved))
