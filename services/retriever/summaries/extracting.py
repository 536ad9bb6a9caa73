"""Choosing the statements that stand for many: those near the middle of the passages, in words that the others share.

How near a passage is to the others is the mean cosine of its vector with theirs; how much of
what the others say a statement says is measured in words as SumBasic does (Nenkova and
Vanderwende 2005): each word weighs as often as statements have it, and its square once a
chosen statement said it, so that the next one says something else.  Invariants: what is
chosen follows from the candidates and their order alone; nothing is said twice.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.retriever.index.index import Vector
from services.retriever.summaries.statements import Quote, Statement
from services.retriever.text.keywords import words
from services.retriever.text.sentences import sentences

# Of the same words, so many places are cited.
_MOST_QUOTES = 3
# Shorter ones are labels, not statements.
_LEAST_CHARACTERS = 15
# Added to the words of a statement, so that two frequent words alone are no summary.
_SMOOTHING = 4
# Equal parts: neither was tuned.
_OF_WORDS = 0.5
# What a word of a focus counts beside nearness to it, and what likeness to a chosen statement costs.
_OF_FOCUS_WORDS = 0.4
_OF_LIKENESS = 0.3
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Focus:
    """What a summary is for: its vector, [dimensions], and its words."""

    vector: Vector
    words: frozenset[str]


def quotations(chunk: int, text: str) -> list[Statement]:
    """What can be said of a chunk in its own words."""
    spans = sentences(text)
    long = [(start, end) for start, end in spans if end - start >= _LEAST_CHARACTERS]
    return [Statement(text[start:end], (Quote(chunk, start, end),)) for start, end in long or spans]


def chosen(
    candidates: Sequence[Statement], vectors: Mapping[int, Vector], most: int, focus: Focus | None = None
) -> tuple[Statement, ...]:
    """The ``most`` statements that say most, or, with a focus, answer it best; the best first.

    ``vectors`` are of the chunks that the statements quote first, [dimensions] each.
    """
    each = _distinct(candidates)
    if not each:
        return ()
    said = [_words(it.text) for it in each]
    near = _nearness([it.quotes[0].chunk for it in each], vectors, focus)
    order = _by_focus(said, near, most, focus) if focus is not None else _by_words(said, near, most)
    return tuple(each[at] for at in order)


def _distinct(candidates: Sequence[Statement]) -> list[Statement]:
    """Each text once, with the places of all."""
    found: dict[str, Statement] = {}
    for candidate in candidates:
        plain = re.sub(r"\W+", " ", candidate.text.casefold()).strip() or candidate.text
        held = found.get(plain)
        if held is None:
            found[plain] = candidate
        else:
            quotes = tuple(dict.fromkeys((*held.quotes, *candidate.quotes)))[: max(_MOST_QUOTES, len(held.quotes))]
            found[plain] = replace(held, quotes=quotes)
    return list(found.values())


def _words(text: str) -> frozenset[str]:
    return frozenset(words(text))


def _nearness(chunks: Sequence[int], vectors: Mapping[int, Vector], focus: Focus | None) -> list[float]:
    """By statement the cosine with the focus, or the mean cosine with all passages; 0 of one without a vector."""
    known = [chunk for chunk in dict.fromkeys(chunks) if chunk in vectors]
    if not known:
        return [0.0] * len(chunks)
    matrix = np.stack([vectors[chunk] for chunk in known]).astype(np.float64)
    middle = matrix.mean(axis=0) if focus is None else focus.vector.astype(np.float64)
    # Rounded, so that the order of a sum does not decide between two that are alike.
    near = dict(zip(known, np.round(matrix @ middle, _DIGITS).tolist(), strict=True))
    return [near.get(chunk, 0.0) for chunk in chunks]


def _by_words(said: Sequence[frozenset[str]], near: Sequence[float], most: int) -> list[int]:
    holders: dict[str, list[int]] = defaultdict(list)
    for at, each in enumerate(said):
        for word in each:
            holders[word].append(at)
    weights = {word: len(held) / len(said) for word, held in holders.items()}
    fullest = max((_share(each, weights) for each in said), default=0.0) or 1.0

    def score(at: int) -> float:
        return round(_OF_WORDS * _share(said[at], weights) / fullest + (1 - _OF_WORDS) * near[at], _DIGITS)

    scores = {at: score(at) for at in range(len(said))}
    order: list[int] = []
    while scores and len(order) < most:
        best = max(scores, key=lambda at: (scores[at], -at))
        order.append(best)
        del scores[best]
        weights.update({word: weights[word] ** 2 for word in said[best]})
        # Only what shares a word with it counts otherwise now.
        scores.update({at: score(at) for at in {it for word in said[best] for it in holders[word]} if at in scores})
    return order


def _share(said: frozenset[str], weights: Mapping[str, float]) -> float:
    # Summed in one order: sets have another in every process.
    return sum(sorted(weights[word] for word in said)) / (len(said) + _SMOOTHING)


def _by_focus(said: Sequence[frozenset[str]], near: Sequence[float], most: int, focus: Focus) -> list[int]:
    asked = max(1, len(focus.words))
    scores = [
        (1 - _OF_FOCUS_WORDS) * near[at] + _OF_FOCUS_WORDS * len(each & focus.words) / asked
        for at, each in enumerate(said)
    ]
    left, order = list(range(len(said))), list[int]()
    alike = [0.0] * len(said)
    while left and len(order) < most:
        best = max(left, key=lambda at: (round(scores[at] - _OF_LIKENESS * alike[at], _DIGITS), -at))
        order.append(best)
        left.remove(best)
        for at in left:
            alike[at] = max(alike[at], len(said[at] & said[best]) / (len(said[at] | said[best]) or 1))
    return order
