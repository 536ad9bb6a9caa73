"""Summaries over a catalog in a folder, and a generator whose words the test chooses."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select

from services.retriever.documents.readers import SERVICE
from services.retriever.generation import Turn, Writer, Written
from services.retriever.store import DocumentRow
from services.retriever.store_generated import SummaryInputRow, SummaryRow
from services.retriever.summaries.answering import Summaries
from services.retriever.summaries.building import Builder
from services.retriever.summaries.grounding import Grounding
from services.retriever.summaries.question import Request
from services.retriever.summaries.statements import Mode
from services.retriever.summaries.wording import Wording
from services.retriever.text.tokens import Tokens
from tests.unit.retriever.writing import DIGEST, Scribe


class Joiner(Scribe):
    """Joins the statements that it is given: ``written`` are its texts; with ``stops_after`` of them it waits for ever.

    ``adds`` stands at the end of each.
    """

    def __init__(self, digest: str = DIGEST) -> None:
        super().__init__(self._joined)
        self.digest = digest
        self.written: list[str] = []
        self.stops_after = -1
        self.stopped = asyncio.Event()
        self.adds = ""

    async def writer(self) -> Writer:
        """As the Protocol says."""
        return replace(await super().writer(), digest=self.digest)

    async def complete(self, turns: Sequence[Turn], max_tokens: int, seed: int = 0) -> Written:
        """As the Protocol says."""
        if len(self.written) == self.stops_after:
            self.stopped.set()
            self.open.clear()
        return await super().complete(turns, max_tokens, seed)

    def _joined(self, asked: str) -> str:
        given = re.findall(r"^Statement \d: (.*)", asked, re.MULTILINE)
        self.written.append(" and ".join(it.rstrip(".") for it in given) + self.adds + ".")
        return self.written[-1]


def summaries(house, generator=None):
    """The verb over a house."""
    scribe = generator or Joiner()
    return Summaries(
        house.database,
        Builder(house.database, Wording(scribe, Grounding(Tokens())), asyncio.to_thread),
        house.embeddings,
        scribe,
    )


def request(mode=Mode.EXTRACTIVE, **fields):
    """A request for all of the collection."""
    given = {"collection": "rules", "focus": "", "viewer": SERVICE, "filter": None, "documents": (), "max_tokens": 0}
    return Request(**{**given, "mode": mode, **fields})


async def rows(house):
    """Every node that is kept: what it says, and the documents below it by name."""

    def query(session):
        said = {row.key: (row.mode, row.level, row.statements_json) for row in session.scalars(select(SummaryRow))}
        names = dict(session.execute(select(DocumentRow.number, DocumentRow.document)).all())
        below: dict[bytes, set[str]] = {}
        for row in session.scalars(select(SummaryInputRow)):
            below.setdefault(row.key, set()).add(names[row.document_number])
        return {key: (*told, sorted(below[key])) for key, told in said.items()}

    return await house.database.read(query)
