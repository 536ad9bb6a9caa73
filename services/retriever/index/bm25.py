"""BM25 as FTS5 computes it, from counts of words: for an index that counts but scores otherwise.

The formula and its constants are those of SQLite's ``fts5_aux.c``: k1 = 1.2, b = 0.75, and
a weight of a word that is never less than a millionth.  Invariant: equal counts give the
same bits as FTS5.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.retriever.search.fusion import ordered

_K1 = 1.2
_B = 0.75
_LEAST_WEIGHT = 1e-6

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a collection: its chunks, all their words, and, by phrase, in how many chunks it is."""

    chunks: int
    words: int
    holders: dict[Phrase, int]


@dataclass(frozen=True, slots=True)
class Bm25:
    """The score of texts for any of some phrases."""

    statistics: Statistics
    phrases: tuple[Phrase, ...]

    def ranked(self, texts: Mapping[int, Sequence[str]]) -> dict[int, float]:
        """The scores of those texts (their tokens, by chunk) that hold a phrase, best first."""
        weights = [self._weight(phrase) for phrase in self.phrases]
        mean = self.statistics.words / self.statistics.chunks if self.statistics.chunks else 0.0
        found: dict[int, float] = {}
        for chunk, tokens in texts.items():
            counts = [_count(tokens, phrase) for phrase in self.phrases]
            if any(counts):
                norm = _K1 * (1 - _B + _B * len(tokens) / mean)
                terms = zip(weights, counts, strict=True)
                found[chunk] = sum(weight * ((n * (_K1 + 1.0)) / (n + norm)) for weight, n in terms)
        return {hit.chunk: hit.score for hit in ordered(found)}

    def _weight(self, phrase: Phrase) -> float:
        holders = self.statistics.holders[phrase]
        weight = math.log((self.statistics.chunks - holders + 0.5) / (holders + 0.5))
        return weight if weight > 0.0 else _LEAST_WEIGHT


def _count(tokens: Sequence[str], phrase: Phrase) -> int:
    """How often the phrase is in the tokens."""
    if len(phrase) == 1:
        return tokens.count(phrase[0])
    return sum(tuple(tokens[at : at + len(phrase)]) == phrase for at in range(len(tokens)))
