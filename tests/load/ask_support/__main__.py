"""How well supported sentences are told from others: ``python -m tests.load.ask_support``.

Sentences are made from XQuAD by code: supported ones are a paragraph's own, as they are, reordered, reworded, shortened, or
a question of it turned into a statement by its answer; others come from elsewhere, or have another number, another name or
another question's answer in them.  Every kind counts the same, and supported ones as much as others.  Thresholds are chosen
on half of the articles, by the F-measure that counts precision twice, and judged on the other half.  The defaults are near
what it chooses and were set by hand, by somebody who had seen both halves.  What is false by a name or an answer that the
passage has too is beyond words and vectors: it is told, and nothing is chosen by it.  The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.asking.stages import BudgetSpentError
from gateway.asking.support import DEFAULT, Support, Thresholds, Verdict
from services.chassis.errors import Failure
from services.ops.cache import cache_dir
from tests.load.ask_support.pairs import Pair, halves
from tests.load.machine import hardware
from tests.load.retriever.vectors import Encoder
from tests.public_sets import public_sets

# Nothing is decided by words alone, so that the words' share and the vectors' cosine are both told of every sentence.
_OPEN = Thresholds(words_support=2.0, words_refuse=0.0)
# False, with nothing in them that the passage has not.
_BEYOND = ("a name of the passage", "misanswered")
# Precision counts twice.
_BETA = 0.5
_SHARES = np.round(np.arange(0.0, 1.0001, 0.05), 2)
_COSINES = np.round(np.arange(0.30, 1.0001, 0.02), 2)
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of pairs: the share of their words and the cosine, [pairs]; their kinds and truths."""

    words: Values
    cosine: Values
    kinds: tuple[str, ...]
    supported: NDArray[np.bool_]

    def accepted(self, at: Thresholds, *, vectors: bool = True) -> NDArray[np.bool_]:
        """Which of them count as supported."""
        if not vectors:
            return (self.words >= at.words_support) | ((self.words >= at.words_refuse) & (self.words >= at.words_alone))
        between = (self.words >= at.words_refuse) & (self.cosine >= at.cosine_support)
        return (self.words >= at.words_support) | between

    def rates(self, accepted: NDArray[np.bool_]) -> dict[str, float]:
        """The share of each kind that counts as supported."""
        kinds = np.array(self.kinds)
        return {kind: float(accepted[kinds == kind].mean()) for kind in dict.fromkeys(self.kinds)}

    def figures(self, accepted: NDArray[np.bool_]) -> dict[str, float]:
        """Precision, recall and their F-measure, each kind counting the same; those that are beyond it left out."""
        true = dict(zip(self.kinds, self.supported, strict=True))
        rates = {kind: rate for kind, rate in self.rates(accepted).items() if kind not in _BEYOND}
        recall = float(np.mean([rate for kind, rate in rates.items() if true[kind]]))
        false = float(np.mean([rate for kind, rate in rates.items() if not true[kind]]))
        precision = recall / (recall + false) if recall + false else 0.0
        weight = _BETA * _BETA
        both = weight * precision + recall
        return {
            "precision": precision,
            "recall": recall,
            "f": (1 + weight) * precision * recall / both if both else 0.0,
        }


class LocalEmbedder:
    """Implements ``gateway.asking.support.Embedder`` by the default model in this process."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """As the Protocol says."""
        rows: list[list[float]] = self._encoder.vectors(texts).tolist() if texts else []
        return rows


async def measured(pairs: Sequence[Pair], encoder: Encoder) -> Measured:
    """Look at every pair as the gateway would; those that claim nothing are left out."""
    rows = []
    for pair in pairs:
        support = Support(pair.sources, LocalEmbedder(encoder), _no_vectors, thresholds=_OPEN)
        (judged,) = await support.judged([(0, pair.sentence)])
        if judged.verdict is not Verdict.NO_CLAIM:
            assert judged.similarity is not None
            rows.append((judged.words, judged.similarity, pair.kind, pair.supported))
    words, cosine, kinds, supported = zip(*rows, strict=True)
    return Measured(np.array(words), np.array(cosine), kinds, np.array(supported))


def _no_vectors(failure: Failure | BudgetSpentError) -> None:
    raise failure


def best(found: Measured) -> Thresholds:
    """The thresholds with the best F-measure; of equals those that leave the fewest sentences to vectors."""
    tried = [
        Thresholds(float(support), float(refuse), 0.0, float(cosine))
        for support in [*_SHARES[_SHARES >= 0.5], 1.01]
        for refuse in _SHARES[support >= _SHARES]
        for cosine in _COSINES
    ]

    def worth(at: Thresholds) -> tuple[float, float, float]:
        between = (found.words >= at.words_refuse) & (found.words < at.words_support)
        return round(found.figures(found.accepted(at))["f"], 3), -float(between.mean()), at.cosine_support

    chosen = max(tried, key=worth)
    alone = [
        Thresholds(chosen.words_support, chosen.words_refuse, float(share), chosen.cosine_support) for share in _SHARES
    ]
    return max(alone, key=lambda at: (round(found.figures(found.accepted(at, vectors=False))["f"], 3), at.words_alone))


def main() -> None:
    """Measure, print tables, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=150, help="sentences of a kind in each half")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    design, test = halves(public_sets(), asked.seed, asked.most)
    encoder = Encoder(cache_dir() / "ask-support")
    chosen_on, judged_on = (asyncio.run(measured(half, encoder)) for half in (design, test))
    encoder.close()
    chosen = best(chosen_on)
    figures: dict[str, object] = {"sentences": len(judged_on.kinds)}
    for name, at in (("default", DEFAULT), ("chosen", chosen)):
        figures[name] = asdict(at) | _told(name, judged_on, at)
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "hardware": hardware(),
        "load_average": round(os.getloadavg()[0], 2),
        "commit": head.stdout.strip(),
    }
    print(json.dumps({"benchmark": "ask_support", **about, **figures}))


def _told(name: str, found: Measured, at: Thresholds) -> dict[str, object]:
    print(f"\n{name}: {at}")
    told: dict[str, object] = {}
    for way, vectors in (("with_vectors", True), ("words_alone", False)):
        accepted = found.accepted(at, vectors=vectors)
        figures = {key: round(value, 4) for key, value in found.figures(accepted).items()}
        print(f"  {way}: {figures}")
        told[f"{way}_figures"] = figures
        told[f"{way}_by_kind"] = rates = {kind: round(rate, 3) for kind, rate in found.rates(accepted).items()}
        for kind, rate in rates.items():
            print(f"    {kind:<24} {rate:.3f}")
    return told


if __name__ == "__main__":
    main()
