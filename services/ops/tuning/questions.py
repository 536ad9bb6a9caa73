"""Questions with the documents that answer them, and which of them are kept aside to judge by.

Invariant: a side follows from a digest, never from the order or the number of the questions, so that a question
that was kept aside once is kept aside by every later training too, also one that goes on from the model of an
earlier one.  Unless documents are shared, no document that answers a question of one side answers one of the other.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.ops.tuning.refusal import Untrainable

# Fewer teach nothing, and fewer judge nothing.
LEAST_TRAINING = 10
LEAST_HELD_OUT = 5
# A question may name one document more than once, and a file may ask it twice.
_SPACE = " "


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the ids of the documents that answer it, at least one."""

    text: str
    documents: frozenset[str]


@dataclass(frozen=True, slots=True)
class Split:
    """What is learned from, and what it is judged by."""

    training: tuple[Question, ...]
    held_out: tuple[Question, ...]


def gathered(pairs: Iterable[tuple[str, Sequence[str]]]) -> tuple[Question, ...]:
    """The questions in order; one that is asked twice is answered by the documents of both.

    Raises Untrainable for one without words or without a document.
    """
    documents: dict[str, set[str]] = defaultdict(set)
    for number, (text, named) in enumerate(pairs, 1):
        words = _SPACE.join(text.split())
        if not words:
            raise Untrainable(f"question {number} is empty: write it, or leave its line out")
        if not named:
            raise Untrainable(f"no document answers {words!r}: name some, or leave its line out")
        documents[words].update(named)
    return tuple(Question(words, frozenset(named)) for words, named in documents.items())


def split(questions: Sequence[Question], held_out: float, *, share_documents: bool) -> Split:
    """About ``held_out`` (a share, 0 to 1) of the questions aside.

    Without ``share_documents`` questions stay together that a chain of documents joins, and the digest is that of the
    documents; with it each question goes by its own.  Raises Untrainable when a side has too few.
    """
    keys = {it: _digest(it.text) for it in questions} if share_documents else _by_documents(questions)
    aside = tuple(it for it in questions if keys[it] < held_out)
    kept = tuple(it for it in questions if keys[it] >= held_out)
    if len(kept) < LEAST_TRAINING or len(aside) < LEAST_HELD_OUT:
        raise Untrainable(_too_few(len(kept), len(aside), held_out, share_documents=share_documents))
    return Split(kept, aside)


def digest(questions: Iterable[Question]) -> str:
    """sha256:… of questions with their documents, whatever their order."""
    lines = sorted(json.dumps([it.text, sorted(it.documents)], ensure_ascii=False) for it in questions)
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"


def _by_documents(questions: Sequence[Question]) -> dict[Question, float]:
    """The place of each question's group: the least digest of the documents that its chain reaches."""
    least = {document: _digest(document) for question in questions for document in question.documents}
    changed = True
    while changed:
        changed = False
        for question in questions:
            lowest = min(least[it] for it in question.documents)
            for it in question.documents:
                changed = changed or least[it] > lowest
                least[it] = lowest
    return {it: min(least[document] for document in it.documents) for it in questions}


def _digest(text: str) -> float:
    """Evenly spread over [0, 1)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _too_few(kept: int, aside: int, held_out: float, *, share_documents: bool) -> str:
    cure = "Bring more questions, or another share of them: --held-out"
    if not share_documents:
        cure += ", or let questions of one document stand on both sides: --share-documents"
    return (
        f"{kept} questions to learn from and {aside} to judge by (a share of {held_out:g}) are too few: "
        f"it takes {LEAST_TRAINING} and {LEAST_HELD_OUT}. {cure}"
    )
