"""What the best passages of a first look add to the question (pseudo-relevance feedback).

Their mean moves the question's vector (Rocchio, 1971) and their most frequent words are looked for beside its own
(as in RM3, Abdul-Jaleel et al., 2004).  Passages that are relevant say what relevant ones say; where only one is, the
others mislead, so what the first look had first stays first.  Invariant: what is added depends on the question and on
passages that its asker may read alone, not on the order in which equally good ones stand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.retriever.index.index import Vector
from services.retriever.search import fusion
from services.retriever.search.question import Ranked
from services.retriever.text.function_words import is_function_word
from services.retriever.text.keywords import keyword_text, words
from services.retriever.text.tokens import Tokens

# How many passages speak with those that tie, but no more than so many, and how many words of them are looked for.
_PASSAGES = 3
_MOST_PASSAGES = 24
_WORDS = 15
# Chunks that may hold one of the words, counted once a word: what a second look costs grows with the collection no more.
_MOST_HOLDERS = 10_000
# So many of the first look's order stay first.
_KEPT = 2
# The passages' mean weighs as much as the question.
_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Spoken:
    """A passage of the first look: its score there, the text that it is indexed by and its vector, [dimensions]."""

    score: float
    text: str
    vector: Vector


def best_passages(order: Sequence[Ranked]) -> list[Ranked]:
    """The first look's, best first; none where more tie than can be told apart."""
    return [hit for tied in fusion.leading(order, _PASSAGES, _MOST_PASSAGES) for hit in tied]


def kept(order: Sequence[Ranked]) -> tuple[tuple[int, ...], ...]:
    """The chunks that stay first, those that tie together."""
    return tuple(tuple(hit.chunk for hit in tied) for tied in fusion.leading(order, _KEPT, _MOST_PASSAGES))


def speaking(best: Sequence[Spoken]) -> list[Spoken]:
    """A text speaks once, however many passages have it."""
    once: Mapping[str, Spoken] = {it.text: it for it in sorted(best, key=lambda it: it.score)}
    return sorted(once.values(), key=lambda it: (-it.score, it.text))


def widened_vector(vector: Vector, best: Sequence[Spoken]) -> Vector:
    """The question's vector, moved towards the passages; length 1, shape [dimensions]."""
    mean = np.sum([it.vector * np.float32(it.score) for it in best], axis=0, dtype=np.float32)
    length = float(np.linalg.norm(mean))
    if length == 0:
        return vector
    moved = vector + mean * np.float32(_WEIGHT / length)
    found: Vector = (moved / np.linalg.norm(moved)).astype(np.float32)
    return found


def telling_words(query: str, best: Sequence[Spoken], tokens: Tokens) -> tuple[str, ...]:
    """The words that take most of the passages, without the question's own: one form of each."""
    own = {token for its in tokens.of(words(query)) for token in its}
    share: dict[str, float] = {}
    form: dict[str, str] = {}
    for it in best:
        said = [word for word in keyword_text(it.text).split() if not is_function_word(word, first=False)]
        for word, stem in zip(said, _stems(said, tokens), strict=True):
            if stem not in own:
                share[stem] = share.get(stem, 0.0) + it.score / len(said)
                form.setdefault(stem, word)
    best_first = sorted(share, key=lambda stem: (-share[stem], stem))
    return tuple(form[stem] for stem in best_first[:_WORDS])


def affordable(words: Sequence[str], holders: Mapping[str, int]) -> tuple[str, ...]:
    """Of the words those that the fewest chunks hold, which tell most, as far as ``_MOST_HOLDERS`` goes; in their order."""
    kept: set[str] = set()
    left = _MOST_HOLDERS
    for word in sorted(words, key=lambda word: holders[word]):
        left -= holders[word]
        if left < 0:
            break
        kept.add(word)
    return tuple(word for word in words if word in kept)


def _stems(said: Sequence[str], tokens: Tokens) -> list[str]:
    distinct = list(dict.fromkeys(said))
    stems = {word: its[0] if its else word for word, its in zip(distinct, tokens.of(distinct), strict=True)}
    return [stems[word] for word in said]
