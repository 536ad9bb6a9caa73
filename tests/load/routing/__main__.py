"""How often ``auto`` chooses right: ``python -m tests.load.routing [--data FOLDER] [--part test|design]``.

Adapters are the 77 intents of Banking77 and the 7 of SNIPS (world `intents`, 84 adapters), or those of Banking77 by the
first word of their names (world `groups`); in the world `unserved` 19 intents drawn at random have no adapter, so that
their questions are near and nobody's.  Examples are drawn from the train part, questions are the test part's, questions
of nobody are XQuAD's; thresholds are fitted on the examples and on the gateway's own outside questions alone.  Vectors
are the default embedding model's, in fp32.  Each figure is the mean over draws of examples, with the 95 % interval of a
bootstrap over questions (1,000 resamples; `_gain` is ours minus the baseline's, paired).  `outside_` and `near_` figures
are of abstaining, as :mod:`tests.load.routing.figures` says; `all_right` is the share of the mixture that went where it
should.  Thresholds and shrinkage see no question of the test; how questions are ranked was chosen among other ways while
one draw of the test was looked at, so `design` measures the same on other messages, of the train part, and other
outside questions: what abstaining goes by was chosen there.  The last line is JSON.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np

from gateway.auto.method import Vectors
from gateway.auto.outside import OUTSIDE
from services.chassis import models
from tests.load.machine import hardware
from tests.load.routing import figures, intents
from tests.load.routing.figures import Values
from tests.load.routing.trial import Choices, World, nearest_centroid, ours

Figures = dict[str, list[float] | dict[str, float]]
METHODS: dict[str, Callable[[World], Choices]] = {"auto": ours, "nearest_centroid": nearest_centroid}
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
    asked = [(text, name) for name in names for text in questions.asked[name]]
    own = np.array([at for at, (_, name) in enumerate(asked) if name not in unserved])
    nobody = {"outside": np.arange(len(asked), len(asked) + len(questions.outside))}
    if unserved:
        nobody["near"] = np.array([at for at, (_, name) in enumerate(asked) if name in unserved])
    texts = [*(text for text, _ in asked), *questions.outside]
    return World(
        examples=meanings.of(examples),
        owners=owners,
        questions=meanings.of(texts),
        asked=own,
        meant=np.array([number[adapter_of[asked[at][1]]] for at in own]),
        nobody=nobody,
        calibration=meanings.of(OUTSIDE),
    )


def measure(questions: intents.Questions, meanings: Meanings, world: str, each: int, draws: int) -> Figures:
    """The figures of one world at so many examples an adapter."""
    trials = [drawn(questions, meanings, world, each, seed) for seed in range(draws)]
    adapters = len(set(trials[0].owners))
    print(f"\n{world}: {adapters} adapters of {each} examples, {len(trials[0].asked)} questions, {draws} draws")
    counts = figures.resampled(len(trials[0].questions))
    found: Figures = {}
    means: dict[str, dict[str, Values]] = {}
    for name, method in METHODS.items():
        told = [method(trial) for trial in trials]
        means[name] = figures.mean([_told(one, trial, counts) for one, trial in zip(told, trials, strict=True)])
        found |= {f"{figure}_{name}": figures.interval(values) for figure, values in means[name].items()}
        for kind in trials[0].nobody:
            curve = np.mean([figures.precision_at(one, kind) for one in told], axis=0)
            at_recalls = zip(figures.RECALLS, curve, strict=True)
            found[f"{kind}_precision_at_recall_{name}"] = {str(at): round(float(value), 4) for at, value in at_recalls}
    for figure, values in means["auto"].items():
        found[f"{figure}_gain"] = figures.interval(values - means["nearest_centroid"][figure])
    for key, value in sorted(found.items()):
        shown = value if isinstance(value, dict) else f"{value[0]:.4f} [{value[1]:+.4f}, {value[2]:+.4f}]"
        print(f"  {key:48s} {shown}")
    return found


def _told(choices: Choices, trial: World, counts: Values) -> dict[str, Values]:
    asked = counts[:, trial.asked]
    told = figures.ranking(choices, asked)
    for kind, at in trial.nobody.items():
        of_kind = figures.abstaining(choices, kind, asked, counts[:, at])
        told |= {f"{kind}_{figure}": values for figure, values in of_kind.items()}
    return told


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
    found = {f"{world}_{each}": measure(questions, meanings, world, each, asked.draws) for world, each in worlds}
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "benchmark": "routing",
        "part": asked.part,
        "hardware": hardware(),
        "load_average": round(os.getloadavg()[0], 2),
        "commit": head.stdout.strip(),
    }
    print(json.dumps({**about, **found}))


if __name__ == "__main__":
    main()
