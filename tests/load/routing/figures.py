"""What one draw of examples comes to: which adapter ranks first, and how well questions of nobody are told from the rest.

Of abstaining, what is found is a question of nobody, by leaving it to the base.  Precision and F1 depend on how many
questions of either kind there are, so they compare methods over one mixture and say nothing of another; AUROC does not.
Every figure is computed over the questions as they are and over resamples of them, the same for all methods and draws,
so that differences are paired.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.load.routing.trial import Choices

Values = NDArray[np.float64]
_RESAMPLES = 1_000
RECALLS = (0.5, 0.8, 0.9, 0.95, 0.99)


def resampled(questions: int, seed: int = 0) -> Values:
    """How often each question counts, [1 + resamples, questions]: once in the first row, then by Poisson's law.

    That is the bootstrap for a sample whose parts are looked at by turns (Chamandy and others, 2012).
    """
    counts = np.random.default_rng(seed).poisson(1.0, (_RESAMPLES, questions))
    return np.concatenate([np.ones((1, questions)), counts])


def ranking(choices: Choices, asked: Values) -> dict[str, Values]:
    """Of questions that have an adapter, counted by ``asked``: [1 + resamples] each."""
    count = asked.sum(1)
    return {"accuracy": asked @ choices.ranked_first / count, "with_threshold": asked @ choices.right / count}


def abstaining(choices: Choices, kind: str, asked: Values, nobody: Values) -> dict[str, Values]:
    """Of a mixture of questions that have an adapter and the ``kind`` of nobody's: [1 + resamples] each."""
    nobodys = choices.nobody[kind]
    asked_count, nobody_count = asked.sum(1), nobody.sum(1)
    left, wrongly = nobody @ (nobodys < 0), asked @ (choices.confidence < 0)
    # The least sure first; of equals those that have an adapter, so that a tie is no success.
    order = np.argsort(np.concatenate([choices.confidence, nobodys]), kind="stable")
    weights = np.concatenate([asked, nobody], axis=1)[:, order]
    found = weights * (order >= len(choices.confidence))
    found_so_far, so_far = found.cumsum(1), weights.cumsum(1)
    return {
        "precision": left / np.maximum(left + wrongly, 1),
        "recall": left / nobody_count,
        "f1": 2 * left / (left + wrongly + nobody_count),
        "all_right": (left + asked @ choices.right) / (asked_count + nobody_count),
        "auroc": ((weights - found) * found_so_far).sum(1) / (asked_count * nobody_count),
        "average_precision": (found * found_so_far / np.maximum(so_far, 1)).sum(1) / nobody_count,
    }


def precision_at(choices: Choices, kind: str) -> Values:
    """The precision of the threshold that leaves each of ``RECALLS`` of nobody's questions to the base, [recalls]."""
    nobody = np.sort(choices.nobody[kind])
    counts = np.ceil(np.array(RECALLS) * len(nobody)).astype(int)
    wrongly = (choices.confidence[:, None] <= nobody[counts - 1]).sum(0)
    return np.asarray(counts / (counts + wrongly))


def mean(draws: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """Of each figure over draws of examples."""
    return {name: np.asarray(np.mean([draw[name] for draw in draws], axis=0)) for name in draws[0]}


def interval(values: Values) -> list[float]:
    """The figure, and the bounds of 95 % of its resamples."""
    return [round(float(at), 4) for at in (values[0], *np.percentile(values[1:], [2.5, 97.5]))]
