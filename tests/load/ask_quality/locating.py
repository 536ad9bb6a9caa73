"""Where the words that answer a question stand in a document as the retriever keeps it."""

import re
from collections import Counter
from dataclasses import dataclass

from tests.load.ask_quality.subjects import Fact

# F1 below which a place is not taken: read beside the sets of documents here, places from 0.4 on are the right ones.
_SURE = 0.4
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, slots=True)
class Gold:
    """Characters [start, end) of a document's text, in code points."""

    document: str
    start: int
    end: int


def locate(fact: Fact, text: str) -> Gold | None:
    """The place of a fact in ``text``; None where its words are not there, or only some of them.

    Words that stand there as they are take their occurrence nearest to where the set says; others, which people have
    shortened or joined, take the run of sentences that shares most words with them (F1 over words).
    """
    places = [found.start() for found in re.finditer(re.escape(fact.words), text)]
    if places:
        start = min(places, key=lambda place: abs(place - max(0, fact.near)))
        return Gold(fact.document, start, start + len(fact.words))
    return _nearest(fact, text)


def _nearest(fact: Fact, text: str) -> Gold | None:
    wanted = Counter(word.lower() for word in _WORD.findall(fact.words))
    sentences = _sentences(text)
    words = [Counter(word.lower() for word in _WORD.findall(text[start:end])) for start, end in sentences]
    best, found = _SURE, None
    for first in range(len(sentences)):
        run: Counter[str] = Counter()
        for last in range(first, len(sentences)):
            run += words[last]
            f1 = 2 * (run & wanted).total() / (run.total() + wanted.total())
            if f1 >= best:
                best, found = f1, Gold(fact.document, sentences[first][0], sentences[last][1])
            # A longer run only adds words that the fact does not have.
            if run.total() > 3 * wanted.total():
                break
    return found


def _sentences(text: str) -> list[tuple[int, int]]:
    """[start, end) of each sentence or line that has a word."""
    found, start = [], 0
    for end in [*(match.start() for match in _SENTENCE_END.finditer(text)), len(text)]:
        first = _WORD.search(text, start, end)
        if first:
            found.append((first.start(), end))
        start = end
    return found
