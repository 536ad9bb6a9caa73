"""What a document repeats on its pages: running headers and footers, and page numbers."""

import re
from collections import Counter
from collections.abc import Sequence

from services.retriever.formats.pdf_order import Row

# Rows at the top and at the bottom of a page that may be furniture.
_EDGE_ROWS = 3
_LEAST_PAGES = 3
_LEAST_SHARE = 0.4
_NUMBERS = re.compile(r"\d+")
_NUMBER = r"(?:\d{1,5}|[ivxlc]{1,7})(?:\s*(?:/|of|von)\s*\d{1,5})?"
_PAGE_NUMBER = re.compile(rf"(?:page|seite|p\.)?\s*[-–]?\s*{_NUMBER}\s*[-–]?", re.IGNORECASE)
# What says of itself that it is one needs no neighbours to be known by.
_PAGE_OF_PAGES = re.compile(r"(?:page|seite)\s+\d{1,5}\s+(?:of|von)\s+\d{1,5}", re.IGNORECASE)
_DROPPED = "#"


def without_furniture(pages: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The pages without what most of them, or most even or odd ones, have at their edges."""
    seen: Counter[str] = Counter()
    numbered = 0
    for rows in pages:
        edge = _edge(rows)
        seen.update({_form(rows[at]) for at in edge})
        numbered += any(_is_number(rows[at]) for at in edge)
    least = max(_LEAST_PAGES, _LEAST_SHARE * len(pages))
    repeated = {form for form, count in seen.items() if count >= least}
    counted = numbered >= least
    return [_kept(rows, repeated, numbers=counted) for rows in pages]


def _kept(rows: Sequence[Row], repeated: set[str], *, numbers: bool) -> list[Row]:
    dropped = {
        at
        for at in _edge(rows)
        if _form(rows[at]) in repeated or _names_page(rows[at]) or (numbers and _is_number(rows[at]))
    }
    return [row for at, row in enumerate(rows) if at not in dropped]


def _edge(rows: Sequence[Row]) -> list[int]:
    """The places of the rows at the top and at the bottom, by height and not by order of reading."""
    by_height = sorted(range(len(rows)), key=lambda at: rows[at].cells[0].top)
    return sorted({*by_height[:_EDGE_ROWS], *by_height[-_EDGE_ROWS:]})


def _form(row: Row) -> str:
    """What is alike on each page, at about the same height."""
    line = row.line
    return f"{round(line.top / 12)} {_NUMBERS.sub(_DROPPED, line.text.lower())}"


def _is_number(row: Row) -> bool:
    return _PAGE_NUMBER.fullmatch(row.line.text.strip()) is not None


def _names_page(row: Row) -> bool:
    return any(_PAGE_OF_PAGES.fullmatch(cell.text.strip()) for cell in row.cells)
