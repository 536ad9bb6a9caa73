"""The part ``manual``: a manual of 1,144 HTML pages and 20 reports, ingested whole, and thirty questions about them.

Nobody judged these documents before: the questions are ours (``manual_questions``), and each has one fact that decides.
"""

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.retriever.documents.states import State
from services.retriever.search.question import Passage
from services.retriever.store import DocumentRow
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.library import TENANT, Library, opened
from tests.load.retriever.manual_judging import Seen, Verdict, found_figures, judged
from tests.load.retriever.manual_questions import QUESTIONS, Posed
from tests.load.retriever.sets import Corpus, manual_and_reports

COLLECTION = "manual"
MOST = 5


async def figures(bench: Bench) -> Figures:
    """How many documents failed and how many questions find their fact among the first passages."""
    sources = manual_and_reports(bench.data)
    contents = {it.document: it.content for it in sources}
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), bench.encoder) as library:
            begun = time.perf_counter()
            await library.fill(Corpus(COLLECTION, sources, ()))
            seconds = time.perf_counter() - begun
            chunks, failed, notices = await library.searching.database.read(_counted)
            asked = [await _asked(library, it, contents[it.document]) for it in QUESTIONS]
    verdicts = [verdict for verdict, _ in asked]
    _told(asked, failed, notices)
    return {
        "manual_documents": len(sources),
        "manual_not_ingested": len(failed),
        "manual_ingest_seconds": round(seconds, 1),
        "manual_chunks": chunks,
        "manual_notices": dict(notices),
        **found_figures(verdicts, MOST),
        "manual_answerable_median": round(statistics.median(score for _, score in asked), 3),
    }


async def _asked(library: Library, posed: Posed, content: bytes) -> tuple[Verdict, float]:
    """What is found, as a search finds that says nothing of how; and the score of whether it is answerable."""
    found = await library.found(COLLECTION, posed.question)
    seen = [
        Seen(it.passage.document, it.text, await _stored(library, it.passage), it.pages) for it in found.hits[:MOST]
    ]
    assert found.answerability is not None
    return judged(posed, content, seen), found.answerability.score


async def _stored(library: Library, at: Passage) -> str:
    excerpt = await library.intake.documents.text(TENANT, COLLECTION, at.document, at.version, at.start, at.end)
    return excerpt.text


def _counted(session: Session) -> tuple[int, list[str], Counter[str]]:
    """Chunks, the documents that do not serve and why, and how many have which notice."""
    chunks = session.scalar(select(func.sum(DocumentRow.chunks))) or 0
    amiss = select(DocumentRow.document, DocumentRow.reason).where(DocumentRow.state != State.READY)
    notices = session.scalars(select(DocumentRow.notice).where(DocumentRow.notice != ""))
    return chunks, [f"{name}: {reason}" for name, reason in session.execute(amiss)], Counter(notices)


def _told(asked: Sequence[tuple[Verdict, float]], failed: Sequence[str], notices: Counter[str]) -> None:
    table = Table(title="in which passage the fact stands (0: not among the first)")
    for column in ("place", "answerable", "where", "document", "question"):
        table.add_column(column)
    for it, score in asked:
        posed = it.posed
        table.add_row(str(it.place), f"{score:.2f}", posed.where.value, posed.document, posed.question)
    console = Console(width=max(160, Console().width))
    console.print(table)
    for problem in failed:
        console.print(f"failed: {problem}")
    for notice, count in notices.items():
        console.print(f"{count} documents: {notice}")
