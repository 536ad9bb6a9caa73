"""What a document repeats on its pages: running headers and footers, and page numbers."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from services.retriever.formats.pdf_order import Row

# Rows at the top and at the bottom of a page that may be furniture.
_EDGE_ROWS = 3
# Of its height, between furniture and text: lines of the text itself follow one another closely, and stay although a
# form's pages may begin alike.
_LEAST_GAP = 0.5
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
        edge = _apart(rows)
        seen.update({_form(rows[at]) for at in edge})
        numbered += any(_is_number(rows[at]) for at in edge)
    least = max(_LEAST_PAGES, _LEAST_SHARE * len(pages))
    repeated = {form for form, count in seen.items() if count >= least}
    counted = numbered >= least
    return [_kept(rows, repeated, numbers=counted) for rows in pages]


def _kept(rows: Sequence[Row], repeated: set[str], *, numbers: bool) -> list[Row]:
    dropped = {at for at in _apart(rows) if _form(rows[at]) in repeated or (numbers and _is_number(rows[at]))}
    dropped |= {at for at in _edge(rows) if _names_page(rows[at])}
    return [row for at, row in enumerate(rows) if at not in dropped]


def _edge(rows: Sequence[Row]) -> list[int]:
    """The places of the rows at the top and at the bottom, by height and not by order of reading."""
    by_height = _by_height(rows)
    return sorted({*by_height[:_EDGE_ROWS], *by_height[-_EDGE_ROWS:]})


def _apart(rows: Sequence[Row]) -> list[int]:
    """Those of them that a gap parts from the rest of the page."""
    by_height = _by_height(rows)
    gaps = [_gap(rows[above], rows[below]) for above, below in itertools.pairwise(by_height)]
    top = [at + 1 for at, gap in enumerate(gaps[:_EDGE_ROWS]) if gap >= _LEAST_GAP]
    bottom = [at + 1 for at, gap in enumerate(gaps[::-1][:_EDGE_ROWS]) if gap >= _LEAST_GAP]
    return sorted({*by_height[: max(top, default=0)], *by_height[len(by_height) - max(bottom, default=0) :]})


def _by_height(rows: Sequence[Row]) -> list[int]:
    return sorted(range(len(rows)), key=lambda at: rows[at].cells[0].top)


def _gap(above: Row, below: Row) -> float:
    """The distance of two rows in heights of the upper one."""
    line = above.line
    return (below.line.top - line.bottom) / max(1.0, line.bottom - line.top)


def _form(row: Row) -> str:
    """What is alike on each page, at about the same height."""
    line = row.line
    return f"{round(line.top / 12)} {_NUMBERS.sub(_DROPPED, line.text.lower())}"


def _is_number(row: Row) -> bool:
    return _PAGE_NUMBER.fullmatch(row.line.text.strip()) is not None


def _names_page(row: Row) -> bool:
    return any(_PAGE_OF_PAGES.fullmatch(cell.text.strip()) for cell in row.cells)
