"""How often ``auto`` chooses right: ``python -m tests.load.routing [--data FOLDER] [--part test|design]``.

Adapters are the 77 intents of Banking77 and the 7 of SNIPS (world `intents`, 84 adapters), or those of Banking77 by the
first word of their names (world `groups`); in the world `unserved` 19 intents drawn at random have no adapter, so that
their questions are near and nobody's.  Examples are drawn from the train part, questions are the test part's, questions
of nobody are XQuAD's; thresholds are fitted on the examples and on the gateway's own outside questions alone.  Vectors
are the default embedding model's, in fp32.  Each figure is the mean over draws of examples, with the 95 % interval of a
bootstrap over questions (10,000 resamples; paired for the difference).  Thresholds and shrinkage see no
question of the test; the method itself was chosen among others while one draw of the test was looked at, so `design`
measures the same on other messages, of the train part, and other outside questions.  The last line is JSON.
"""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import psutil
from numpy.typing import NDArray

from gateway.auto.method import Vectors
from gateway.auto.outside import OUTSIDE
from services.chassis import models
from tests.load.routing import intents
from tests.load.routing.trial import Choices, World, auroc, nearest_centroid, ours

Values = NDArray[np.float64]
Figures = dict[str, float | str | list[float]]
METHODS: dict[str, Callable[[World], Choices]] = {"auto": ours, "nearest_centroid": nearest_centroid}
_RESAMPLES = 10_000
_UNSERVED = 19


class Meanings:
    """The vector of every text, computed once."""

    def __init__(self, texts: Sequence[str]) -> None:
        from sentence_transformers import SentenceTransformer

        path = models.resolve(models.DEFAULT_EMBEDDING).path
        encoder = SentenceTransformer(str(path), device="cpu", local_files_only=True)
        distinct = list(dict.fromkeys(texts))
        vectors = encoder.encode(distinct, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        self._vectors = dict(zip(distinct, np.asarray(vectors, np.float64), strict=True))

    def of(self, texts: Sequence[str]) -> Vectors:
        """[texts, dimensions]."""
        return np.stack([self._vectors[text] for text in texts])


def drawn(questions: intents.Questions, meanings: Meanings, world: str, each: int, seed: int) -> World:
    """One draw of examples."""
    random = Random(seed)
    names = list(questions.examples)
    bank = [name for name in names if "_" in name or name == "Refund_not_showing_up"]
    unserved = set(random.sample(bank, _UNSERVED)) if world == "unserved" else set()
    adapter_of = intents.grouped(questions.examples) if world == "groups" else {name: name for name in names}
    adapters = sorted({adapter_of[name] for name in names if name not in unserved})
    number = {adapter: at for at, adapter in enumerate(adapters)}
    examples, owners = [], []
    for adapter in adapters:
        pool = [text for name in names if adapter_of[name] == adapter for text in questions.examples[name]]
        chosen = random.sample(pool, min(each, len(pool)))
        examples += chosen
        owners += [number[adapter]] * len(chosen)
    asked = [
        (text, number[adapter_of[name]]) for name in names if name not in unserved for text in questions.asked[name]
    ]
    nobody = {"outside": meanings.of(questions.outside)}
    if unserved:
        nobody["near"] = meanings.of([text for name in sorted(unserved) for text in questions.asked[name]])
    return World(
        meanings.of(examples),
        owners,
        meanings.of([text for text, _ in asked]),
        np.array([owner for _, owner in asked]),
        nobody,
        meanings.of(OUTSIDE),
    )


def _interval(values: Values, seed: int = 0) -> list[float]:
    """Mean and bounds over questions."""
    random = np.random.default_rng(seed)
    means = np.array([values[random.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)])
    return [round(float(at), 4) for at in (values.mean(), *np.percentile(means, [2.5, 97.5]))]


def measure(questions: intents.Questions, meanings: Meanings, world: str, each: int, draws: int) -> Figures:
    """The figures of one world at so many examples an adapter."""
    trials = [drawn(questions, meanings, world, each, seed) for seed in range(draws)]
    adapters = len(set(trials[0].owners))
    print(f"\n{world}: {adapters} adapters of {each} examples, {len(trials[0].asked)} questions, {draws} draws")
    figures: Figures = {}
    told = {name: [method(trial) for trial in trials] for name, method in METHODS.items()}

    # Where adapters differ from draw to draw, questions do too: then a draw is what is drawn again.
    def over(rows: list[Values]) -> Values:
        return np.asarray(np.concatenate(rows) if world == "unserved" else np.mean(rows, axis=0))

    ranked = {name: over([found.ranked_first.astype(float) for found in runs]) for name, runs in told.items()}
    for name, runs in told.items():
        figures[f"accuracy_{name}"] = _interval(ranked[name])
        figures[f"with_threshold_{name}"] = _interval(over([found.right.astype(float) for found in runs]))
        for kind in trials[0].nobody:
            accepted = np.mean([(found.nobody[kind] >= 0).mean() for found in runs])
            taken = [np.concatenate([found.confidence, found.nobody[kind]]) < 0 for found in runs]
            truth = [np.r_[np.zeros(len(found.confidence)), np.ones(len(found.nobody[kind]))] for found in runs]
            precision = np.mean(
                [is_out[left].mean() if left.any() else 0 for left, is_out in zip(taken, truth, strict=True)]
            )
            areas = np.mean([auroc(found.confidence, found.nobody[kind]) for found in runs])
            figures |= {
                f"{kind}_abstention_recall_{name}": round(1 - float(accepted), 4),
                f"{kind}_abstention_precision_{name}": round(float(precision), 4),
                f"{kind}_auroc_{name}": round(float(areas), 4),
            }
    figures["accuracy_gain"] = _interval(ranked["auto"] - ranked["nearest_centroid"])
    for key, value in figures.items():
        shown = f"{value[0]:.4f} [{value[1]:+.4f}, {value[2]:+.4f}]" if isinstance(value, list) else value
        print(f"  {key:48s} {shown}")
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the public sets")
    parser.add_argument("--part", choices=["test", "design"], default="test")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--examples", type=int, nargs="+", default=[5, 10, 20])
    asked = parser.parse_args()
    questions = (intents.of_test if asked.part == "test" else intents.of_design)(asked.data)
    pools = [text for part in (questions.examples, questions.asked) for texts in part.values() for text in texts]
    meanings = Meanings([*pools, *questions.outside, *OUTSIDE])
    worlds = [("intents", each) for each in asked.examples] + [("groups", asked.examples[-1]), ("unserved", 10)]
    figures = {f"{world}_{each}": measure(questions, meanings, world, each, asked.draws) for world, each in worlds}
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "benchmark": "routing",
        "part": asked.part,
        "hardware": f"{psutil.cpu_count()} x {platform.processor() or platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2),
        "commit": head.stdout.strip(),
    }
    print(json.dumps({**about, **figures}))


if __name__ == "__main__":
    main()
