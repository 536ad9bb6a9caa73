"""Lines of a page in the order in which they are read: columns one after another, rows of tables cell by cell.

Invariant: every line that comes in goes out once, alone or as a cell of a row.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from services.retriever.formats.pdf_lines import Line

_LEAST_COLUMN_LINES = 5
# A column's lines are prose: most of them have words, and fill its width.
_LEAST_COLUMN_WORDS = 3
_LEAST_FILL = 0.55
_MOST_SPANNING = 0.35
_MOST_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class Row:
    """What stands at one height of a column: one line of prose, or the cells of a table's row."""

    cells: tuple[Line, ...]

    @property
    def line(self) -> Line:
        """All of it as one line, with spaces between the cells."""
        first, *others = self.cells
        for cell in others:
            first = first.joined(cell, " ")
        return first


def in_order(lines: Sequence[Line], columns: int = _MOST_COLUMNS) -> list[Row]:
    """The rows of a page, as they are read."""
    gutter = _gutter(lines) if columns > 1 else None
    if gutter is None:
        return _rows(lines)
    rows: list[Row] = []
    band: list[Line] = []
    for line in sorted(lines, key=lambda it: it.top):
        if line.left < gutter < line.right:
            # What reaches over both columns ends them.
            rows += _side_by_side(band, gutter, columns)
            rows.append(Row((line,)))
            band = []
        else:
            band.append(line)
    return rows + _side_by_side(band, gutter, columns)


def _side_by_side(band: Sequence[Line], gutter: float, columns: int) -> list[Row]:
    left = [line for line in band if line.right <= gutter]
    right = [line for line in band if line.right > gutter]
    return [*in_order(left, columns - 1), *in_order(right, columns - 1)]


def _gutter(lines: Sequence[Line]) -> float | None:
    """Where two columns of prose part; None where there are none."""
    if len(lines) < 2 * _LEAST_COLUMN_LINES:
        return None
    first, last = min(line.left for line in lines), max(line.right for line in lines)
    width = last - first
    # Between two columns lie the left edges of the second one.
    edges = sorted({round(line.left) for line in lines if first + 0.2 * width < line.left < first + 0.8 * width})
    found = [(score, edge - 1.0) for edge in edges if (score := _score(lines, edge - 1.0)) is not None]
    return min(found)[1] if found else None


def _score(lines: Sequence[Line], x: float) -> float | None:
    """How bad a gutter ``x`` is; None if it is none."""
    left = [line for line in lines if line.right <= x]
    right = [line for line in lines if line.left >= x]
    spanning = len(lines) - len(left) - len(right)
    if min(len(left), len(right)) < _LEAST_COLUMN_LINES or spanning > _MOST_SPANNING * len(lines):
        return None
    if not (_is_prose(left) and _is_prose(right)):
        return None
    overlap = min(max(it.bottom for it in left), max(it.bottom for it in right)) - max(
        min(it.top for it in left), min(it.top for it in right)
    )
    return spanning / len(lines) if overlap > 0 else None


def _is_prose(lines: Sequence[Line]) -> bool:
    words = statistics.median(line.text.count(" ") + 1 for line in lines)
    width = max(line.right for line in lines) - min(line.left for line in lines)
    fill = statistics.median(line.width for line in lines) / max(1.0, width)
    return words >= _LEAST_COLUMN_WORDS and fill >= _LEAST_FILL


def _rows(lines: Sequence[Line]) -> list[Row]:
    """Lines at one height together, from top to bottom, each row from left to right."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda it: ((it.top + it.bottom) / 2, it.left)):
        if rows and _beside(rows[-1][-1], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [Row(_merged(sorted(row, key=lambda it: it.left))) for row in rows]


def _beside(one: Line, other: Line) -> bool:
    """Whether two lines share a base line."""
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared > 0.5 * min(one.bottom - one.top, other.bottom - other.top)


def _merged(row: Sequence[Line]) -> tuple[Line, ...]:
    """The cells of a row; pieces without a wide gap between them are one cell."""
    cells: list[Line] = []
    for line in row:
        if cells and line.left - cells[-1].right < 0.9 * max(cells[-1].size, line.size):
            gap = line.left - cells[-1].right
            cells[-1] = cells[-1].joined(line, " " if gap > 0.03 * line.size else "")
        else:
            cells.append(line)
    return tuple(cells)
