"""Rows of PDF pages to headings, paragraphs, lists and tables.

A heading is what the document's bookmarks name, or else a short line in larger or bolder type than the text.
"""

import itertools
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.retriever.formats.pdf_lines import Line
from services.retriever.formats.pdf_order import Row
from services.retriever.formats.writer import Writer

_LARGER = 1.12
_TEXT_SHARE = 0.05
_TEXT_LINE_CHARACTERS = 45
_LONGEST_HEADING = 160
_MOST_SIZES = 4
_BULLET = re.compile(r"^(?:[•‣◦▪●○■□\u25cf\uf0b7–*-]|\(?[0-9a-zA-Z]{1,2}[.)])\s+(?=\S)")
_MARK = re.compile(r"^[•‣◦▪●○■□\u25cf\uf0b7–*-]\s+")
_NOT_LETTERS = re.compile(r"[^\w]+")
_HYPHENATED = re.compile(r"[^\W\d_]{2,}-$")
_WORDS = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LEAST_TABLE_ROWS = 2


@dataclass(frozen=True, slots=True)
class Bookmarks:
    """Levels of headings by (page, form of the title)."""

    levels: Mapping[tuple[int, str], int]

    @staticmethod
    def form(title: str) -> str:
        """A title without what bookmarks and pages write differently."""
        return _NOT_LETTERS.sub("", title).lower()


@dataclass(frozen=True, slots=True)
class _Type:
    """What the letters of a document say: the text's sizes, larger ones from the largest, the usual line distance."""

    smallest: float
    body: float
    larger: tuple[float, ...]
    pitch: float
    # Words as they stand inside lines: whether a hyphen at a line's end belongs to the word.
    words: frozenset[str]

    @classmethod
    def of(cls, pages: Sequence[Sequence[Row]]) -> "_Type":
        sizes: Counter[float] = Counter()
        words: set[str] = set()
        for rows in pages:
            for row in rows:
                for cell in row.cells:
                    sizes[cell.size] += len(cell.text)
                    words.update(_WORDS.findall(cell.text.lower()))
        usual = max(sizes, key=lambda size: (sizes[size], -size)) if sizes else 10.0
        # A report's text may be larger than what fills its tables; lines of text are long.
        text = {usual, *(it for it in sizes if sizes[it] >= _TEXT_SHARE * sizes.total() and _is_long(pages, it))}
        body = max(text)
        larger = tuple(sorted((size for size in sizes if size >= body * _LARGER), reverse=True))
        return cls(min(text), body, larger, _pitch(pages), frozenset(words))


def _is_long(pages: Sequence[Sequence[Row]], size: float) -> bool:
    """Whether lines of this size are as long as those of text."""
    lengths = [len(cell.text) for rows in pages for row in rows for cell in row.cells if cell.size == size]
    return statistics.fmean(lengths) >= _TEXT_LINE_CHARACTERS


def _pitch(pages: Sequence[Sequence[Row]]) -> float:
    """The usual distance of base lines that follow one another."""
    gaps = [
        round(below.line.bottom - above.line.bottom, 1)
        for rows in pages
        for above, below in itertools.pairwise(rows)
        if 0 < below.line.bottom - above.line.bottom < 40
    ]
    return statistics.mode(gaps) if gaps else 12.0


def write_pages(writer: Writer, pages: Sequence[Sequence[Row]], bookmarks: Bookmarks) -> None:
    """Write every page."""
    letters = _Type.of(pages)
    marked = _marked(pages, bookmarks)
    for number, rows in enumerate(pages):
        writer.page()
        _Page(writer, letters, number, bookmarks if marked else Bookmarks({})).write(rows)


def _marked(pages: Sequence[Sequence[Row]], bookmarks: Bookmarks) -> bool:
    """Whether the bookmarks are the document's headings: half of them stand on their pages."""
    forms = [{Bookmarks.form(row.line.text) for row in rows} for rows in pages]
    found = sum(1 for page, form in bookmarks.levels if page < len(forms) and form in forms[page])
    return found > 0 and found * 2 >= len(bookmarks.levels)


class _Page:
    """Writes one page."""

    def __init__(self, writer: Writer, letters: _Type, number: int, bookmarks: Bookmarks) -> None:
        self._writer = writer
        self._letters = letters
        self._number = number
        self._bookmarks = bookmarks
        self._paragraph: list[Line] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Headings, tables and paragraphs in order."""
        at = 0
        while at < len(rows):
            table = _table_length(rows, at)
            if table >= _LEAST_TABLE_ROWS:
                self._end()
                cells = _cells(rows[at : at + table], self._letters.words)
                self._writer.table(cells, header=all(cell.bold for cell in rows[at].cells))
                at += table
                continue
            line, level = rows[at].line, self._level(rows[at])
            if level:
                self._end()
                at = self._heading(rows, at, level)
                continue
            if self._paragraph and self._begins(self._paragraph[-1], line):
                self._end()
            self._paragraph.append(line)
            at += 1
        self._end()

    def _heading(self, rows: Sequence[Row], at: int, level: int) -> int:
        """Write the heading that begins here, over all its lines; where it ends."""
        line = rows[at].line
        after = at + 1
        while after < len(rows) and self._goes_on(line, rows[after], level):
            line = line.joined(rows[after].line, " ")
            after += 1
        self._writer.heading(level, line.text)
        return after

    def _goes_on(self, heading: Line, row: Row, level: int) -> bool:
        line = row.line
        alike = (line.size, line.bold) == (heading.size, heading.bold)
        near = 0 < line.top - heading.bottom < 0.6 * heading.size
        return alike and near and heading.size >= self._letters.body * _LARGER and self._level(row) == level

    def _level(self, row: Row) -> int:
        """The level of a heading; 0 for text."""
        line = row.line
        if self._bookmarks.levels:
            return self._bookmarks.levels.get((self._number, Bookmarks.form(line.text)), 0)
        if len(line.text) > _LONGEST_HEADING or not any(it.isalpha() for it in line.text) or len(row.cells) > 2:
            return 0
        larger = self._letters.larger[:_MOST_SIZES]
        if line.size in larger:
            return larger.index(line.size) + 1
        ends = line.text[-1] in ".,;:!?"
        if (
            line.bold
            and len(row.cells) == 1
            and not ends
            and line.size >= self._letters.smallest
            and len(line.text) > 2
        ):
            return len(larger) + 1
        return 0

    def _begins(self, last: Line, line: Line) -> bool:
        """Whether a line begins another paragraph than the one before it belongs to."""
        gap = line.bottom - last.bottom
        far = gap > 1.35 * self._letters.pitch + 0.5 or gap < 0
        indented = line.left - min(it.left for it in self._paragraph) > line.size and len(self._paragraph) > 1
        return far or indented or line.size != last.size or _BULLET.match(line.text) is not None

    def _end(self) -> None:
        lines, self._paragraph = self._paragraph, []
        if not lines:
            return
        text = _mended([line.text for line in lines], self._letters.words)
        mark = _MARK.match(text)
        if mark:
            self._writer.item(text[mark.end() :])
        else:
            self._writer.paragraph(text)


def _mended(lines: Sequence[str], words: frozenset[str]) -> str:
    """Lines as one text, words that a line end cut made whole."""
    text = lines[0]
    for line in lines[1:]:
        if _HYPHENATED.search(text) and line[:1].islower():
            head = _WORDS.findall(text)[-1].lower() if _WORDS.findall(text[-60:]) else ""
            tail = _WORDS.match(line)
            whole = f"{head}-{tail.group().lower() if tail else ''}"
            text = f"{text}{line}" if whole in words else f"{text[:-1]}{line}"
        else:
            text = f"{text} {line}"
    return text


def _table_length(rows: Sequence[Row], at: int) -> int:
    """How many rows from here on are rows of one table; 0 for prose."""
    length = 0
    while at + length < len(rows):
        row = rows[at + length]
        if not length:
            goes_on = len(row.cells) > 1
        else:
            above = rows[at : at + length]
            goes_on = _share_columns(above[-1], row) if len(row.cells) > 1 else False
            goes_on = goes_on or _continues(above, row)
        if not goes_on:
            break
        length += 1
    return length


def _share_columns(above: Row, below: Row) -> bool:
    """Whether a cell stands under a cell, the first ones apart."""
    return any(_aligned(one, other) for one in above.cells[1:] for other in below.cells[1:])


def _continues(table: Sequence[Row], row: Row) -> bool:
    """Whether a row is the rest of the cells above it: each stands close under a cell, none under the first."""
    near = row.line.top - table[-1].line.bottom < 0.6 * row.cells[0].size
    columns = _widest(table)
    placed = all(any(_aligned(cell, column) for column in columns[1:]) for cell in row.cells)
    return near and placed and row.cells[0].left > columns[0].left + columns[0].size


def _aligned(one: Line, other: Line) -> bool:
    return abs(one.left - other.left) < one.size or abs(one.right - other.right) < 0.5 * one.size


def _widest(rows: Sequence[Row]) -> tuple[Line, ...]:
    return max(rows, key=lambda row: len(row.cells)).cells


def _cells(rows: Sequence[Row], words: frozenset[str]) -> list[list[str]]:
    """The texts of a table's cells, wrapped ones whole, under the columns of the row that has the most."""
    columns = _widest(rows)
    table: list[list[list[str]]] = []
    for at, row in enumerate(rows):
        if not at or not _continues(rows[:at], row):
            table.append([[] for _ in columns])
        for cell in row.cells:
            table[-1][_column(cell, columns)].append(cell.text)
    return [[_mended(lines, words) if lines else "" for lines in row] for row in table]


def _column(cell: Line, columns: Sequence[Line]) -> int:
    def apart(at: int) -> float:
        return min(abs(columns[at].left - cell.left), abs(columns[at].right - cell.right))

    return min(range(len(columns)), key=apart)
