"""The part ``cited``: the manual, the reports and the thirty questions through a whole suite, answers with citations."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.ops.supervisor import launch
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.manual_asking import FREELY, IN_FORM, MOST, Cited, ask, bring_in, verdict
from tests.load.retriever.manual_judging import Verdict, found_figures
from tests.load.retriever.manual_questions import QUESTIONS
from tests.load.retriever.sets import Source, manual_and_reports

COLLECTION = "manual"


async def figures(bench: Bench) -> Figures:
    """Ingest through a suite of its own, search and ask."""
    return await asyncio.to_thread(_measured, manual_and_reports(bench.data))


def _measured(sources: Sequence[Source]) -> Figures:
    contents = {it.document: it.content for it in sources}
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder)) as suite, suite.client() as client:
        begun = time.perf_counter()
        failed = bring_in(client, COLLECTION, sources)
        seconds = time.perf_counter() - begun
        verdicts = [verdict(client, COLLECTION, it, contents[it.document]) for it in QUESTIONS]
        # One after the other: the second finds the prompt in the engine's cache.
        asked = [[ask(client, COLLECTION, it, shape) for shape in (FREELY, IN_FORM)] for it in QUESTIONS]
    freely, in_form = ([pair[way] for pair in asked] for way in (0, 1))
    _told(verdicts, freely, in_form)
    served = {f"served_{name}": number for name, number in found_figures(verdicts, MOST).items()}
    return {
        "served_manual_not_ingested": len(failed),
        "served_manual_ingest_seconds": round(seconds, 1),
        **served,
        "manual_answers_offered": sum(it.offered for it in freely),
        "manual_answers_cited_freely": sum(it.cited for it in freely),
        "manual_answers_cited": sum(it.cited for it in in_form),
        "manual_citations_astray": sum(it.astray for it in (*freely, *in_form)),
    }


def _told(verdicts: Sequence[Verdict], freely: Sequence[Cited], in_form: Sequence[Cited]) -> None:
    """Print what became of each question."""
    table = Table(title="place of the fact (0: not found); whether it was offered and is cited, freely and in form")
    for column in ("place", "offered", "freely", "in form", "document", "answer"):
        table.add_column(column)
    for it, free, bound in zip(verdicts, freely, in_form, strict=True):
        marks = ["✓" if yes else "✗" for yes in (free.offered, free.cited, bound.cited)]
        table.add_row(str(it.place), *marks, it.posed.document, bound.text)
    Console(width=max(160, Console().width)).print(table)
