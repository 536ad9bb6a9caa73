"""Very large documents: read and split within bounded memory, and given up at once when nobody wants them."""

import asyncio
from typing import Any

import psutil
import pytest

from services.retriever.documents.media import MediaType
from services.retriever.formats.convert import Raw
from services.retriever.ingestion import parsing
from services.retriever.text.chunking import Budget, Measured, chunked, refined, texts_to_measure
from tests.stack import eventually
from tests.unit.retriever.formats import building
from tests.unit.retriever.reader_processes import readers

MEGABYTE = 1024**2


def at_work():
    return any(child.cpu_times().user > 0.1 for child in readers())


def long_text(size_bytes):
    """Paragraphs of five sentences, all different."""
    sentence = "In {} the keeper of the harbour sounds the siren when the barometer falls below {}."
    paragraphs, size, number = [], 0, 0
    while size < size_bytes:
        paragraphs.append(" ".join(sentence.format(number, number + at) for at in range(5)))
        size += len(paragraphs[-1]) + 2
        number += 1
    return "\n\n".join(paragraphs)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_two_hundred_megabytes_of_text_are_split_within_the_memory_of_their_child():
    text = long_text(200 * MEGABYTE)
    before = psutil.Process().memory_info().rss
    async with parsing.opened(parsing.Limits(seconds=600, memory_bytes=2 * 1024 * MEGABYTE)) as parser:
        outline = await parser.outline("large.txt", text, markdown=False)
    measured = Measured()
    for one in measured.missing(texts_to_measure(text, outline, "large")):
        measured.tokens[one] = len(one) // 5
    budget = Budget(200, 54)
    chunks = chunked(text, refined(text, outline, measured, budget), "large", measured, budget)
    assert psutil.Process().memory_info().rss - before < 12 * len(text)
    assert sum(len("".join(chunk.text.split())) for chunk in chunks) == len("".join(text.split()))
    assert all(chunk.text == text[chunk.start : chunk.end] for chunk in chunks)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_pdf_of_two_thousand_pages_is_read_within_the_memory_of_its_child():
    pages = [f"Page {n} of the log. " + f"Boat {n} has paid fourteen crowns to the keeper. " * 9 for n in range(2000)]
    raw = Raw(building.pdf(*pages), MediaType.PDF, "", 64 * MEGABYTE)
    async with parsing.opened(parsing.Limits(seconds=600, memory_bytes=512 * MEGABYTE)) as parser:
        found = await parser.convert("large.pdf", raw)
    assert len(found.pages) == 2000
    for number in (0, 999, 1999):
        assert found.text[found.pages[number] :].startswith(f"Page {number} of the log.")


@pytest.mark.parametrize("kind", ["text", "pdf"])
async def test_what_is_cancelled_stops_its_child_at_once(kind):
    """The same that a deletion or a newer put does (``test_conversion``), on work that would take long."""
    async with parsing.opened(parsing.Limits(seconds=600, memory_bytes=2 * 1024 * MEGABYTE)) as parser:
        work: Any
        if kind == "text":
            work = parser.outline("large.md", "# words\n" * 500_000, markdown=True)
        else:
            raw = Raw(building.pdf(*["words of a page"] * 500), MediaType.PDF, "", MEGABYTE)
            work = parser.convert("large.pdf", raw)
        running = asyncio.ensure_future(work)
        await asyncio.to_thread(eventually, at_work, "the child is at work")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not readers()
