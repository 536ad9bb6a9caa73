"""What each way to look further gains and costs: question vectors, a written passage, a question's parts, reranking.

A whole suite with the deployment's generator, because the texts are the generator's; the figures are those that
`trivium docs tune` gives a tenant, on questions spread evenly over a set.  Each way stands on top of what was better
before it beyond its interval.  Costs: seconds a search, as if nothing were remembered, and seconds a chunk for its
questions, which are written once.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from trivium_client import Trivium
from trivium_client.nouns import SearchSettings, TuningReport

from services.ops.supervisor import launch
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.sets import SETS, Asked, Corpus

_QUESTIONS_PER_CHUNK = 2
# Nothing streams how far the writing of questions is; a look a second costs it nothing.
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Tried:
    """One corpus: what tuning found on so many questions, and what writing questions cost a chunk."""

    name: str
    questions: int
    chunks: int
    seconds_a_chunk: float
    report: TuningReport


async def figures(bench: Bench) -> Figures:
    """The ways on each set that is asked for."""
    return await asyncio.to_thread(_figures, bench)


def _figures(bench: Bench) -> Figures:
    found = []
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder)) as suite, suite.client() as client:
        for name in bench.sets:
            for corpus in SETS[name](bench.data).corpora:
                found.append(_tried(client, corpus, bench.questions))
                _told(found[-1])
    return {"expansions": {it.name: _keys(it) for it in found}}


def _tried(client: Trivium, corpus: Corpus, most: int) -> Tried:
    client.collections.create(corpus.name)
    for it in corpus.documents:
        client.docs.add_text(it.content.decode(), collection=corpus.name, document=it.document, title=it.title)
    for _document, pending in client.docs.watch(corpus.name):
        if not pending:
            break
    began = time.perf_counter()
    chunks = _questioned(client, corpus.name)
    seconds = time.perf_counter() - began
    asked = _spread(corpus.questions, most)
    report = client.docs.tune(corpus.name, [(it.text, sorted(it.gold)) for it in asked])
    return Tried(corpus.name, len(asked), chunks, seconds / chunks, report)


def _questioned(client: Trivium, collection: str) -> int:
    """Have questions written for every chunk, and wait for them; returns the number of chunks."""
    client.collections.update(collection, search_settings=SearchSettings(questions_per_chunk=_QUESTIONS_PER_CHUNK))
    while True:
        progress = client.collections.get(collection).questions
        if progress is not None and progress.chunks and progress.chunks_done == progress.chunks:
            return progress.chunks
        time.sleep(_POLL_SECONDS)


def _spread(questions: Sequence[Asked], most: int) -> list[Asked]:
    """So many of those that something answers, evenly over the set."""
    answered = [it for it in questions if it.gold]
    return [answered[at * len(answered) // most] for at in range(most)] if len(answered) > most else answered


def _keys(it: Tried) -> dict[str, object]:
    return {
        "questions": it.questions,
        "chunks": it.chunks,
        "question_seconds_a_chunk": round(it.seconds_a_chunk, 3),
        "trials": {
            trial.trial: {
                "ndcg": round(trial.ndcg, 4),
                "gain": [round(each, 4) for each in (trial.gain, trial.gain_low, trial.gain_high)],
                "seconds": round(trial.seconds, 4),
                "note": trial.note,
            }
            for trial in it.report.trials
        },
    }


def _told(it: Tried) -> None:
    """Print the table."""
    table = Table(title=f"{it.name}: {it.questions} questions; a chunk's questions took {it.seconds_a_chunk:.2f} s")
    for column in ("way", "nDCG@10", "gain over what was taken", "seconds a search", "taken", "note"):
        table.add_column(column)
    for trial in it.report.trials:
        gain = f"{trial.gain:+.3f} [{trial.gain_low:+.3f}, {trial.gain_high:+.3f}]"
        taken = "yes" if trial.taken else ""
        table.add_row(trial.trial, f"{trial.ndcg:.3f}", gain, f"{trial.seconds:.3f}", taken, trial.note)
    Console(width=max(150, Console().width)).print(table)
