"""Sentences of a passage, as they are written: what can be quoted from it.

Invariant: every span is characters of the text itself, without blanks at its ends; spans
are in order and do not overlap; headings, rows of tables and code are none.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from services.retriever.text.cutting import Span, pieces, trimmed

# A line, or a sentence in it: its marks, and what closes a quotation or a bracket behind them.
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[」』）]*")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
# What begins a line of its own: a heading, an item of a list, a row of a table, a fence, a quotation.
_BREAK = re.compile(r"\n(?=[ \t]*(?:#{1,6}\s|[-*+•]\s|\d{1,3}[.)]\s|\||```|~~~|>))")
_FENCE = re.compile(r"^(?:```|~~~)", re.MULTILINE)
_MARKER = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)]|>)[ \t]+")
_NO_SENTENCE = re.compile(r"[ \t]*(?:#{1,6}\s|\||```|~~~|[-=*_]{3,}\s*$)")
# A point behind these ends no sentence.
_SHORT_FORM = re.compile(r"(?:\b(?:[A-Za-z]|[A-Z][a-z]|approx|etc|e\.g|i\.e|vs|cf|Fig|Nos?|Prof|Inc|Ltd|Mrs))\.$")
_LONGEST = 400


def sentences(text: str) -> list[Span]:
    """Sentences as [start, end), in order; one that is too long to quote comes in pieces."""
    found: list[Span] = []
    for start, end in _blocks(text):
        found += _in_block(text, start, end)
    return found


def _blocks(text: str) -> Iterator[Span]:
    """Paragraphs and items, code left out."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    code = [(first, last) for first, last in zip(fences[::2], [*fences[1::2], len(text)], strict=False)]
    cuts = {0, len(text)}
    cuts |= {match.end() for match in _BLANK_LINE.finditer(text)} | {match.end() for match in _BREAK.finditer(text)}
    # A heading ends with its line.
    cuts |= {match.end() for match in re.finditer(r"(?m)^[ \t]*#{1,6}\s.*$", text)}
    edges = sorted(cuts)
    for start, end in pairwise(edges):
        if not _NO_SENTENCE.match(text, start, end) and not any(first <= start < last for first, last in code):
            yield start, end


def _in_block(text: str, start: int, end: int) -> Iterator[Span]:
    marker = _MARKER.match(text, start, end)
    at = marker.end() if marker else start
    for match in _END.finditer(text, at, end):
        if match.group() == "." and _SHORT_FORM.search(text, max(at, match.end() - 12), match.end()):
            continue
        yield from _quotable(text, at, match.end())
        at = match.end()
    yield from _quotable(text, at, end)


def _quotable(text: str, start: int, end: int) -> Iterator[Span]:
    for first, last in trimmed(text, start, end):
        yield from pieces(text, first, last, _LONGEST)
