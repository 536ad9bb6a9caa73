"""How well the score of answerability tells the kinds of questions apart, and how its weights are fitted.

Invariant: weights are fitted on encyclopedia paragraphs and judged on the documents of organisations; a threshold is
fitted on every other question of an organisation and judged on the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, fields

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from services.retriever.search.answerable import THRESHOLD, Features, fit, score
from tests.load.machine import hardware
from tests.load.retriever.abstention import Case, Kind, cases
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.sets import multicorpus, xquad_halves

_COVERAGES = tuple(tenth / 10 for tenth in range(1, 11))


async def figures(bench: Bench) -> Figures:
    """``answerable_auc_foreign`` and ``answerable_auc_near`` over the organisations, with what follows from them."""
    if bench.fit:
        _fitted(await cases(xquad_halves(bench.data), bench.encoder))
    found = await cases(multicorpus(bench.data, "md").corpora, bench.encoder)
    names = sorted({it.corpus for it in found})
    answer: Figures = {f"answerable_auc_{kind}": _auc(found, kind) for kind in (Kind.FOREIGN, Kind.NEAR)}
    answer["answerable_auc"] = {
        name: {kind.value: _auc([it for it in found if it.corpus == name], kind) for kind in (Kind.FOREIGN, Kind.NEAR)}
        for name in names
    }
    answer["answerable_risk_coverage"] = {kind.value: _curve(found, kind) for kind in (Kind.FOREIGN, Kind.NEAR)}
    answer["answerable_default"] = {"threshold": THRESHOLD, **_answered(found, THRESHOLD)}
    answer["answerable_fitted"] = {name: _held_out([it for it in found if it.corpus == name]) for name in names}
    _told(answer, names)
    return answer


def _auc(found: Sequence[Case], kind: Kind) -> float:
    """The chance that a question with an answer scores above one of this kind."""
    both = [it for it in found if it.kind in (Kind.OWN, kind)]
    return round(float(roc_auc_score([it.kind is Kind.OWN for it in both], [score(it.features) for it in both])), 4)


def _curve(found: Sequence[Case], kind: Kind) -> list[list[float]]:
    """Pairs of coverage and risk: of the questions answered first, the share that has no answer.

    Own questions and those of the kind in equal weight, so that answering all has a risk of one half.
    """
    both = sorted((it for it in found if it.kind in (Kind.OWN, kind)), key=lambda it: -score(it.features))
    each = {wanted: sum(it.kind is wanted for it in both) for wanted in (Kind.OWN, kind)}
    weights = np.array([0.5 / each[it.kind] for it in both])
    wrong = np.cumsum(weights * np.array([it.kind is not Kind.OWN for it in both]))
    covered = np.cumsum(weights)
    places = [min(int(np.searchsorted(covered, coverage - 1e-9)), len(both) - 1) for coverage in _COVERAGES]
    return [[cut, round(float(wrong[at] / covered[at]), 4)] for cut, at in zip(_COVERAGES, places, strict=True)]


def _answered(found: Sequence[Case], threshold: float) -> dict[str, float]:
    """By kind the share of questions that is answered."""
    shares = {}
    for kind in Kind:
        mine = [score(it.features) >= threshold for it in found if it.kind is kind]
        shares[f"{kind.value}_answered"] = round(sum(mine) / len(mine), 4)
    return shares


def _held_out(found: Sequence[Case]) -> dict[str, float]:
    """A threshold fitted on own questions and near-misses, every other one, and what it does to the rest."""
    learnt, rest = found[::2], found[1::2]
    known = [it for it in learnt if it.kind is not Kind.FOREIGN]
    threshold = fit([score(it.features) for it in known], [it.kind is Kind.OWN for it in known])
    return {"threshold": round(threshold, 4), **_answered(rest, threshold)}


def _fitted(found: Sequence[Case]) -> None:
    """Print weights for ``services.retriever.search.answerable``: kinds without an answer count as much as those with."""
    share = {Kind.OWN: 2.0, Kind.NEAR: 1.0, Kind.FOREIGN: 1.0}
    weights = np.array([share[it.kind] / sum(other.kind is it.kind for other in found) for it in found])
    values = np.array([astuple(it.features) for it in found])
    mean, spread = values.mean(axis=0), values.std(axis=0)
    model = LogisticRegression(C=1.0, max_iter=1000)
    model.fit((values - mean) / spread, [it.kind is Kind.OWN for it in found], weights / weights.mean())
    raw = model.coef_[0] / spread
    bias = float(model.intercept_[0]) - math.fsum(raw * mean)
    print(f"fitted on {len(found)} cases ({hardware()}): bias {bias:.2f}")
    for field, weight in zip(fields(Features), raw, strict=True):
        print(f"  {field.name} {weight:.2f}")


def _told(answer: Figures, names: Sequence[str]) -> None:
    table = Table(title="Area under the curve of answerability, and what the default threshold answers")
    for column in ("corpus", "foreign", "near"):
        table.add_column(column, justify="left" if column == "corpus" else "right")
    by_name = answer["answerable_auc"]
    assert isinstance(by_name, dict)
    for name in names:
        table.add_row(name, *(f"{by_name[name][kind.value]:.3f}" for kind in (Kind.FOREIGN, Kind.NEAR)))
    table.add_row("all", *(f"{answer[f'answerable_auc_{kind}']:.3f}" for kind in (Kind.FOREIGN, Kind.NEAR)))
    console = Console(width=max(150, Console().width))
    console.print(table)
    console.print(f"at the default threshold: {answer['answerable_default']}")
