"""What an answer is worth: its words, its citations at the level of characters, and whether it should have been one.

Counts are of one question each, so that figures are functions of their sums and rows can be drawn again.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.sources_prompt import NOT_FOUND
from tests.load.ask_quality.locating import Gold

_MARKER = re.compile(r"\s*\[[0-9]+\]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# A citation is right that holds as much of an answering passage; a passage is cited of which as much is.
_ENOUGH = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer as it came.  Spans are (document, start, end) in code points; times in seconds."""

    text: str
    cited: tuple[tuple[str, int, int], ...]
    offered: tuple[tuple[str, int, int], ...]
    abstained: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Judged:
    """Counts of one question.  Where nothing can answer, all but ``abstained`` are 0."""

    answerable: bool
    abstained: bool
    exact: float
    f1: float
    citations: int
    right_citations: int
    golds: int
    golds_cited: int
    golds_offered: int


def says_nothing_found(text: str) -> bool:
    """Whether an answer is that the sources do not hold it."""
    return NOT_FOUND in text.lower()


def judged(outcome: Outcome, answers: Sequence[str], golds: Sequence[Gold], *, answerable: bool) -> Judged:
    """Judge one answer; ``golds`` are the passages that answer, as far as they could be located."""
    if not answerable:
        return Judged(False, outcome.abstained, 0.0, 0.0, 0, 0, 0, 0, 0)
    said = "" if outcome.abstained else _MARKER.sub("", outcome.text)
    cited, offered = list(dict.fromkeys(outcome.cited)), list(outcome.offered)
    return Judged(
        answerable=True,
        abstained=outcome.abstained,
        exact=max(float(normalised(said) == normalised(answer)) for answer in answers),
        f1=max(token_f1(said, answer) for answer in answers),
        # Where no gold passage could be located nobody can say whether a citation is right.
        citations=len(cited) if golds else 0,
        right_citations=sum(any(_holds(span, gold) for gold in golds) for span in cited),
        golds=len(golds),
        golds_cited=sum(any(_holds(span, gold) for span in cited) for gold in golds),
        golds_offered=sum(any(_holds(span, gold) for span in offered) for gold in golds),
    )


def _holds(span: tuple[str, int, int], gold: Gold) -> bool:
    document, start, end = span
    shared = min(end, gold.end) - max(start, gold.start)
    return document == gold.document and shared >= _ENOUGH * (gold.end - gold.start)


def normalised(text: str) -> str:
    """Without case, punctuation, articles and further spaces (Rajpurkar et al., "SQuAD", 2016)."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def token_f1(given: str, expected: str) -> float:
    """Harmonic mean of precision and recall over normalised words (the same)."""
    had, wanted = Counter(normalised(given).split()), Counter(normalised(expected).split())
    shared = (had & wanted).total()
    return 2 * shared / (had.total() + wanted.total()) if shared else 0.0
