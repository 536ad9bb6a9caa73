"""Whether what is found for a question answers it, at the very characters and on the very page that it names."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from tests.load.retriever.manual_questions import Posed


@dataclass(frozen=True, slots=True)
class Seen:
    """A passage that was found, and what the stored text has at its offsets; ``pages``: first and last, 0 for none."""

    document: str
    text: str
    stored: str
    pages: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one question: the place, from 1, of the first passage that holds its fact (0: none does).

    ``offsets_wrong`` passages are not the stored characters; ``pages_wrong`` hold the fact and name pages without it.
    """

    posed: Posed
    place: int
    offsets_wrong: int
    pages_wrong: int


def judged(posed: Posed, content: bytes, found: Sequence[Seen]) -> Verdict:
    """Judge what was found, best first; ``content`` is the file that answers."""
    holding = [(place, it) for place, it in enumerate(found, start=1) if posed.answered_by(it.document, it.text)]
    pages = pages_with(posed, content) if posed.document.endswith(".pdf") else frozenset({0})
    return Verdict(
        posed=posed,
        place=min((place for place, _ in holding), default=0),
        offsets_wrong=sum(it.text != it.stored for it in found),
        pages_wrong=sum(not pages.intersection(range(it.pages[0], it.pages[1] + 1)) for _, it in holding),
    )


def found_figures(verdicts: Sequence[Verdict], most: int) -> dict[str, int]:
    """How many questions have their fact in the first passage and in the first ``most``; and what is wrong."""
    return {
        "manual_questions": len(verdicts),
        "manual_cited_at_1": sum(it.place == 1 for it in verdicts),
        f"manual_cited_at_{most}": sum(0 < it.place <= most for it in verdicts),
        "manual_offsets_wrong": sum(it.offsets_wrong for it in verdicts),
        "manual_pages_wrong": sum(it.pages_wrong for it in verdicts),
    }


def pages_with(posed: Posed, content: bytes) -> frozenset[int]:
    """The pages, from 1, of a PDF that hold the fact, as the PDF library reads them without us."""
    document = importlib.import_module("pypdfium2").PdfDocument(content)
    try:
        texts = [document[number].get_textpage().get_text_range() for number in range(len(document))]
    finally:
        document.close()
    return frozenset(number for number, text in enumerate(texts, start=1) if posed.stands_in(text))
