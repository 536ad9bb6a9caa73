"""Quotations of an answer, looked for in what may be quoted, character for character.

Invariant: a quotation that is found has exactly the characters of its span, runs of white space apart: the prompt shows
sources on one line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.asking.retrieval import Source
from gateway.generation import SourceSpan

# Fewer words are a name or a term, which anybody may put in marks.
FEWEST_WORDS = 4
# Single marks are apostrophes too: what stands between them is nobody's quotation here.
CLOSING = {
    "“": "”",
    "„": "“”",
    "«": "»",
    "»": "«",
    "‹": "›",
    "›": "‹",
    "「": "」",
    "『": "』",
    '"': '"',
}
# These close what others open: they open behind white space or another opening alone.
EITHER = frozenset('"»›')
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Quote:
    """What stands between marks at [start, end) of the answer; ``span`` is where it is from, None for the question."""

    start: int
    end: int
    found: bool
    span: SourceSpan | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a quotation stands; None is the question."""

    span: SourceSpan | None


class Quotable:
    """What an answer may quote: its sources, and the question that it answers."""

    def __init__(self, sources: Sequence[Source], question: str) -> None:
        self._sources = [(source.span, *_flat(source.text)) for source in sources]
        self._question = _flat(question)[0]

    def find(self, quotation: str) -> Place | None:
        """Where these characters stand first; a comma or full stop that the sentence put inside does not count."""
        wanted = _flat(quotation)[0].strip()
        for words in dict.fromkeys((wanted, wanted.rstrip(".,;:"))):
            for span, flat, places in self._sources:
                at = flat.find(words)
                if words and at >= 0:
                    start, end = places[at], places[at + len(words) - 1] + 1
                    return Place(replace(span, start=span.start + start, end=span.start + end))
            if words and words in self._question:
                return Place(None)
        return None


def is_quotation(text: str) -> bool:
    """Whether what stands between marks is long enough to be a quotation."""
    return len(text.split()) >= FEWEST_WORDS


def _flat(text: str) -> tuple[str, list[int]]:
    """A text with each run of white space as one space, and where each character of that stood."""
    flat: list[str] = []
    places: list[int] = []
    at = 0
    for gap in _SPACES.finditer(text):
        flat.append(text[at : gap.start()])
        places += range(at, gap.start())
        flat.append(" ")
        places.append(gap.start())
        at = gap.end()
    flat.append(text[at:])
    places += range(at, len(text))
    return "".join(flat), places
