"""What a search's two lists say of whether the answer is among them.

Invariant: it follows from the lists, the passages and the words of the question: not from fusion, reranking or pages.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.retriever.index.index import Frequencies, Index
from services.retriever.search import fusion
from services.retriever.search.answerable import NOTHING, Features
from services.retriever.search.arms import Lists
from services.retriever.text.keywords import keyword_text, words
from services.retriever.text.tokens import Tokens

# Of each list so many of the best passages are read: three tell no more, and take three times as long.
_LOOKED = 1
_NEXT = 10
# BM25 of a word gets no higher than this, with k1 = 1.2, times its weight.
_MOST_OF_A_WORD = 2.2
_LITERAL = re.compile(r"\d[\d.,]*|[^\W\d_]\w*")

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question: its words as tokens with how rare they are, and its numbers and names."""

    weights: Mapping[Phrase, float]
    literals: Sequence[Phrase]
    rarity: float

    @property
    def mass(self) -> float:
        return math.fsum(self.weights.values())


def looked_at(lists: Sequence[Lists]) -> list[int]:
    """The chunks whose texts :func:`of_each` needs."""
    return list(dict.fromkeys(chunk for it in lists for chunk in _best(it)))


def of_each(
    index: Index,
    tokens: Tokens,
    numbers: Sequence[int],
    queries: Sequence[str],
    lists: Sequence[Lists],
    texts: Mapping[int, str],
) -> list[Features]:
    """For each query what its lists say.  ``texts`` are the passages as they are indexed.  Blocks."""
    held = dict(zip(texts, tokens.of([keyword_text(text) for text in texts.values()]), strict=True))
    found = []
    for query, its in zip(queries, lists, strict=True):
        wanted = words(query)
        frequencies = _together([index.frequencies(number, wanted) for number in numbers])
        found.append(_features(_asked(query, wanted, frequencies, tokens), its, held))
    return found


def _asked(query: str, wanted: Sequence[str], frequencies: Frequencies, tokens: Tokens) -> _Asked:
    names = [match.group() for match in _LITERAL.finditer(query) if match[0][0].isdigit() or _is_name(match, query)]
    forms = [tuple(it) for it in tokens.of([*wanted, *map(keyword_text, names)])]
    weights = {
        form: _weight(frequencies.chunks, frequencies.by_word[word])
        for word, form in zip(wanted, forms, strict=False)
        if form
    }
    most = _weight(frequencies.chunks, 0)
    rarity = math.fsum(weights.values()) / len(weights) / most if weights else 0.0
    return _Asked(weights, [form for form in forms[len(wanted) :] if form], rarity)


def _is_name(match: re.Match[str], query: str) -> bool:
    """Whether a word has a capital that does not come from its place."""
    return match[0][0].isupper() and bool(query[: match.start()].strip())


def _weight(chunks: int, holders: int) -> float:
    return math.log(1 + (chunks - holders + 0.5) / (holders + 0.5))


def _features(asked: _Asked, lists: Lists, held: Mapping[int, Sequence[str]]) -> Features:
    near = fusion.ordered(lists.dense)[:1]
    matching = [hit.score for hit in fusion.ordered(lists.sparse)[:_NEXT]]
    passages = [held[chunk] for chunk in _best(lists) if chunk in held]
    if not passages or not asked.mass:
        return NOTHING
    most = _MOST_OF_A_WORD * asked.mass
    matched = matching[0] if matching else 0.0
    behind = math.fsum(matching[1:]) / len(matching[1:]) if matching[1:] else 0.0
    nearest = set(held.get(near[0].chunk, ())) if near else set()
    covered = math.fsum(weight for form, weight in asked.weights.items() if nearest.issuperset(form))
    return Features(
        cosine=_bounded(near[0].score if near else 0.0),
        matched=_bounded(matched / most),
        lead=_bounded((matched - behind) / most),
        covered=_bounded(covered / asked.mass),
        literal=max(_literal(asked.literals, set(passage)) for passage in passages),
        paired=max(_paired(list(asked.weights), passage) for passage in passages),
        rarity=_bounded(asked.rarity),
    )


def _literal(literals: Sequence[Phrase], passage: set[str]) -> float:
    """The share of the numbers and names that the passage holds."""
    return sum(passage.issuperset(form) for form in literals) / len(literals) if literals else 1.0


def _paired(forms: Sequence[Phrase], passage: Sequence[str]) -> float:
    """The share of neighbouring words that stand in this order in the passage, with at most one word between."""
    pairs = [(one[-1], other[0]) for one, other in pairwise(forms)]
    together = {*pairwise(passage), *zip(passage, passage[2:], strict=False)}
    return sum(pair in together for pair in pairs) / len(pairs) if pairs else 0.0


def _best(lists: Lists) -> list[int]:
    """The best chunks of both lists."""
    both = (fusion.ordered(scores)[:_LOOKED] for scores in (lists.dense, lists.sparse))
    return list(dict.fromkeys(hit.chunk for hits in both for hit in hits))


def _together(each: Sequence[Frequencies]) -> Frequencies:
    """Several collections as one."""
    counts: dict[str, int] = {}
    for frequencies in each:
        for word, count in frequencies.by_word.items():
            counts[word] = counts.get(word, 0) + count
    return Frequencies(sum(it.chunks for it in each), counts)


def _bounded(value: float) -> float:
    return min(1.0, max(0.0, value))
