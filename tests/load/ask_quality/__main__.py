"""Answers and citations of the whole path: ``python -m tests.load.ask_quality``.

Two subjects, XQuAD's paragraphs and three organisations' documents, are asked about through a whole suite by the base
and by an adapter that was trained on another part of them in the prompt of the gateway (RAFT), with retrieval and
without.  About an hour and a half alone on two cores; `--scale 0.05` shows in minutes that it runs.  What is done is
kept below `--state`: killed and started again, the benchmark goes on.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.ops.cache import CHECKOUT, cache_dir
from services.ops.supervisor import Suite, launch
from tests.load.ask_quality.asking import Way, outcomes
from tests.load.ask_quality.deployment import ADAPTER, Texts, ingested, trained
from tests.load.ask_quality.figures import NAMES, figures
from tests.load.ask_quality.judging import Judged, judged
from tests.load.ask_quality.locating import Gold, locate
from tests.load.ask_quality.subjects import Posed, Subject, subjects
from tests.load.finetune_quality.state import State

WAYS = (
    Way("base", "base", retrieval=False),
    Way("RAFT adapter", ADAPTER, retrieval=False),
    Way("RAG over base", "base", retrieval=True),
    Way("RAG over RAFT adapter", ADAPTER, retrieval=True),
)
Found = dict[str, tuple[float, float, float] | None]


def main() -> None:
    """Ingest, train, ask on every way, print a table of each subject, end with one line of JSON."""
    parser = argparse.ArgumentParser(
        "ask_quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=CHECKOUT.parent / "shared" / "data", help="folder of the sets")
    parser.add_argument("--state", type=Path, default=cache_dir() / "ask-quality", help="folder of what is done")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the questions")
    parser.add_argument("--seed", type=int, default=0, help="of which questions are taken, and of training")
    asked = parser.parse_args()
    state = State(asked.state / f"scale-{asked.scale:g}-seed-{asked.seed}")
    state.open(f"{asked.scale} {asked.seed}")
    found = subjects(asked.data, asked.scale, asked.seed)
    with launch(state.folder / "suite") as suite:
        # Closed before the questions: two event loops of one process race for gRPC's wake-ups.
        with suite.client() as client:
            texts = [ingested(client, subject) for subject in found]
            adapter = trained(client, state, list(zip(found, texts, strict=True)), asked.seed)
        print(f"adapter {adapter}", flush=True)
        results = {
            subject.name: _measured(suite, state, subject, other, text)
            for subject, other, text in zip(found, reversed(found), texts, strict=True)
        }
    for subject in found:
        _told(subject, results[subject.name])
    print(json.dumps({"benchmark": "ask_quality", "scale": asked.scale, "adapter": adapter, "subjects": results}))


def _measured(suite: Suite, state: State, subject: Subject, other: Subject, texts: Texts) -> dict[str, Found]:
    """The figures of a subject on every way; questions about the ``other`` one are among those nothing can answer."""
    foreign = other.test[: len(subject.unanswerable)]
    asked = [*subject.test, *subject.unanswerable, *foreign]
    answerable = len(subject.test)
    found: dict[str, Found] = {}
    for way in WAYS:
        told = asyncio.run(outcomes(suite, state, way, subject.name, asked))
        rows = [
            judged(outcome, posed.answers, _golds(posed, texts), answerable=place < answerable)
            for place, (posed, outcome) in enumerate(zip(asked, told, strict=True))
        ]
        found[way.name] = _figures(subject, way, rows)
        print(f"{subject.name}, {way.name}: {_line(found[way.name])}", flush=True)
    return found


def _golds(posed: Posed, texts: Texts) -> list[Gold]:
    return [
        gold
        for fact in posed.facts
        if fact.document in texts.test and (gold := locate(fact, texts.test[fact.document]))
    ]


def _figures(subject: Subject, way: Way, rows: Sequence[Judged]) -> Found:
    """All figures that mean something: long answers are never the same, and nothing is cited that was not offered."""
    found = figures(rows)
    idle = [name for name in NAMES if name == "exact" and not subject.short]
    idle += [name for name in ("citation_precision", "citation_recall", "offered") if not way.retrieval]
    return {**found, **dict.fromkeys(idle)}


def _line(found: Found) -> str:
    return ", ".join(f"{name} {value[0]:.3f}" for name, value in found.items() if value is not None)


def _told(subject: Subject, found: Mapping[str, Found]) -> None:
    title = (
        f"{subject.name}: {len(subject.test)} questions over {len(subject.test_documents)} documents, "
        f"{2 * len(subject.unanswerable)} that nothing in them answers; 95 % intervals"
    )
    table = Table(title=title)
    for column in ("", *NAMES):
        table.add_column(column.replace("_", " "), justify="right" if column else "left")
    for way, values in found.items():
        table.add_row(
            way, *("-" if value is None else "{:.3f} [{:.3f}, {:.3f}]".format(*value) for value in values.values())
        )
    Console(width=max(200, Console().width)).print(table)


if __name__ == "__main__":
    main()
