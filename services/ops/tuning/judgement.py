"""Whether what was trained is better, on questions that it never saw.

Invariant: both sides are judged on the same questions and the same passages, by documents as `trivium docs tune`
judges; better means that the whole 95 % interval of the difference in nDCG@10 is above nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.ops.tuning.mining import Found
from services.ops.tuning.passages import Library
from services.ops.tuning.questions import Question
from services.retriever.search import intervals, mixing, tuning

Vectors = Callable[[Sequence[str]], "np.ndarray[Any, np.dtype[np.float32]]"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A way to order, and of each held-out question its nDCG@10 and the reciprocal rank of its first right document."""

    name: str
    ndcg: tuple[float, ...]
    reciprocal_ranks: tuple[float, ...]

    @property
    def means(self) -> tuple[float, float]:
        """Mean nDCG@10 and mean reciprocal rank."""
        return intervals.mean(self.ndcg), intervals.mean(self.reciprocal_ranks)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What there was before and what was trained: the gain in nDCG@10 and its 95 % interval."""

    before: Judged
    trained: Judged
    gain: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """Whether chance does not explain the gain."""
        return self.low > 0


def compared(before: Sequence[Judged], trained: Judged) -> Comparison:
    """Trained against the best of what there was, at least one."""
    best = max(before, key=lambda it: it.means)
    return Comparison(best, trained, *intervals.paired(trained.ndcg, best.ndcg))


def of_vectors(name: str, vectors: Vectors, library: Library, questions: Sequence[Question]) -> Judged:
    """Every passage of the collection by its cosine alone, a document by its best passage.  Blocks."""
    passages = vectors([it.text for it in library.passages])
    asked = vectors([it.text for it in questions])
    documents = [it.document for it in library.passages]
    # A row a question, a column a passage.
    scores = asked @ passages.T
    orders = [dict.fromkeys(documents[at] for at in np.argsort(-row, kind="stable")) for row in scores]
    return _judged(name, [list(it) for it in orders], questions)


def of_search(name: str, found: Sequence[Found]) -> Judged:
    """The order in which searches gave their passages."""
    orders = [list(dict.fromkeys(it.document for it in each.passages)) for each in found]
    return _judged(name, orders, [each.question for each in found])


def of_scores(name: str, scores: Callable[[str, Sequence[str]], list[float]], found: Sequence[Found]) -> Judged:
    """What searches gave, ordered as a search orders it that reranks: by both scores.  Blocks."""
    orders = []
    for each in found:
        said = scores(each.question.text, [it.text for it in each.passages]) if each.passages else []
        both = mixing.mixed(said, each.scores, mixing.WEIGHT) if said else []
        places = sorted(range(len(both)), key=lambda at: (-both[at], at))
        orders.append(list(dict.fromkeys(each.passages[at].document for at in places)))
    return _judged(name, orders, [each.question for each in found])


def _judged(name: str, orders: Sequence[Sequence[str]], questions: Sequence[Question]) -> Judged:
    pairs = [(order, it.documents) for order, it in zip(orders, questions, strict=True)]
    return Judged(
        name,
        tuple(tuning.ndcg(order, gold) for order, gold in pairs),
        tuple(_reciprocal_rank(order, gold) for order, gold in pairs),
    )


def _reciprocal_rank(order: Sequence[str], gold: frozenset[str]) -> float:
    """One over the place of the first that is right among the first ten, 0 where none is."""
    places = enumerate(order[: tuning.CUT], start=1)
    return next((1 / place for place, it in places if it in gold), 0.0)
