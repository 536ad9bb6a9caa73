"""Whether a collection can answer: a score of what a search found, and the threshold from which on it counts.

The score is a logistic model of seven features.  Its weights were fitted once, on questions about encyclopedia paragraphs
asked of the right half of them, of that half without the paragraph, and of the other half
(``python -m tests.load.retriever --part answerable --fit``), and are judged on the documents of organisations.
Invariant: the score follows from the features alone, and a feature that rises never lowers it.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

# Of questions of both kinds in equal number, about as many are wrongly refused as wrongly answered.
THRESHOLD = 0.5
_BIAS = -7.54


@dataclass(frozen=True, slots=True)
class Features:
    """What speaks for an answer, each from 0 to 1.

    ``cosine`` is the nearest passage's.  ``matched`` is the best BM25, and ``lead`` its distance to the mean of the next
    nine, both as parts of the most that the question could reach.  ``covered`` is the share of the question's words,
    weighed by how rare they are, that the nearest passage holds: there both lists agree.  ``literal`` is the share of its
    numbers and names that one of the best passages holds (1 where it has none), ``paired`` that of its neighbouring
    words which stand together in one of them.  ``rarity`` is how rare the words are in the collection.
    """

    cosine: float
    matched: float
    lead: float
    covered: float
    literal: float
    paired: float
    rarity: float


NOTHING = Features(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
WEIGHTS = Features(5.80, 2.33, 8.95, 2.90, 0.74, 2.12, 1.08)


@dataclass(frozen=True, slots=True)
class Answerability:
    """The score, the threshold that it was held against, and what it follows from.

    ``abstention`` is what the collections want made of a question under it; empty where they do not say.
    """

    score: float
    threshold: float
    features: Features
    abstention: str = ""

    @property
    def answerable(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.score >= self.threshold


def score(features: Features) -> float:
    """From 0 to 1; among questions of both kinds in equal number, roughly the chance that the answer is there."""
    terms = (weight * value for weight, value in zip(astuple(WEIGHTS), astuple(features), strict=True))
    return 1 / (1 + math.exp(-math.fsum((_BIAS, *terms))))


def judged(each: Sequence[Features], threshold: float) -> Answerability:
    """Of several queries for one question, the one that finds most."""
    best = max(each, key=score, default=NOTHING)
    return Answerability(score(best), threshold, best)


def fit(scores: Sequence[float], answerable: Sequence[bool]) -> float:
    """The threshold that tells a collection's own questions apart best: the most of both kinds' shares that are right.

    Half way between two neighbouring scores; of equals the nearest to the default.  Raises ValueError unless there are
    questions of both kinds.
    """
    if len(set(answerable)) < 2:
        raise ValueError("both answerable and unanswerable questions are needed")
    yes = sorted(found for found, known in zip(scores, answerable, strict=True) if known)
    no = sorted(found for found, known in zip(scores, answerable, strict=True) if not known)
    distinct = sorted({0.0, *scores, 1.0})
    cuts = [THRESHOLD, *((one + other) / 2 for one, other in pairwise(distinct))]
    return max(cuts, key=lambda cut: (round(_right(yes, no, cut), 9), -abs(cut - THRESHOLD)))


def _right(yes: Sequence[float], no: Sequence[float], threshold: float) -> float:
    """The mean of both kinds' shares that a threshold takes for what they are."""
    answered = sum(found >= threshold for found in yes) / len(yes)
    refused = sum(found < threshold for found in no) / len(no)
    return (answered + refused) / 2
