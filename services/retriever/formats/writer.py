"""Writes the normalised text of a converted document, and knows the place of every block in it to the character.

Invariants: the text is in the one normal form, read well by people and models (Markdown's headings, lists and pipe
tables); units hold every character that is not blank and do not overlap; a row of a table is one unit.  What a
document may grow to is limited here, for every format.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from services.retriever.formats.unreadable import Unreadable
from services.retriever.text.blocks import Block, BlockKind, Outline, units_of
from services.retriever.text.cutting import Span


@dataclass(frozen=True, slots=True)
class Converted:
    """A document as text.  ``pages`` holds where each page begins, in characters; empty without pages.

    ``notice`` is a sentence about what could not be read, empty as a rule.
    """

    text: str
    outline: Outline
    pages: tuple[int, ...]
    notice: str


# Longer tables repeat their header in every row, so that a chunk of theirs can be read by itself.
_MOST_PIPED_ROWS = 15
_REPLACED = {
    **{code: None for code in range(0x20) if chr(code) not in "\t\n"},
    **dict.fromkeys([0x7F, 0xAD, 0x200B, 0xFEFF, 0xFFFE, 0xFFFF]),
    ord("\r"): "\n",
    ord("\u2028"): "\n",
    ord("\u2029"): "\n",
    ord("\xa0"): " ",
    # Ligatures are a matter of type.
    **{0xFB00 + at: letters for at, letters in enumerate(("ff", "fi", "fl", "ffi", "ffl", "st", "st"))},
}
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def clean(text: str) -> str:
    """Characters as they are stored: one normal form, no controls, no marks of type-setting."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").translate(_SURROGATES))
    return text.replace("\r\n", "\n").translate(_REPLACED)


def on_one_line(text: str) -> str:
    """Cleaned, every run of blanks a space."""
    return " ".join(clean(text).split())


class Writer:
    """Blocks in, a :class:`Converted` out.  ``most_characters`` is what the text may grow to."""

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._headings: list[tuple[int, str]] = []
        self._title = ""
        # The list or table that is being written, and its units so far.
        self._open: tuple[BlockKind, list[Span]] | None = None
        self._pages: list[int] = []
        self._turned = 0

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    def page(self) -> None:
        """A page begins; the next block is its first."""
        self._close()
        self._turned += 1

    def heading(self, level: int, text: str) -> None:
        """A heading of level 1 to 6, or deeper, which counts as 6."""
        words = on_one_line(text)
        if not words:
            return
        level = min(max(level, 1), 6)
        self._headings = [*(item for item in self._headings if item[0] < level), (level, words)]
        self._title = self._title or words
        self._block(BlockKind.HEADING, f"{'#' * level} {words}", level)

    def paragraph(self, text: str) -> None:
        """A paragraph; its own line breaks stay."""
        lines = (" ".join(line.split()) for line in clean(text).split("\n"))
        self._block(BlockKind.PARAGRAPH, "\n".join(line for line in lines if line))

    def code(self, text: str) -> None:
        """Lines whose blanks count."""
        lines = [line.rstrip() for line in clean(text).expandtabs(4).split("\n")]
        while lines and not lines[0]:
            lines.pop(0)
        while lines and not lines[-1]:
            lines.pop()
        self._block(BlockKind.CODE, "\n".join(lines))

    def item(self, text: str, depth: int = 0, number: int = 0) -> None:
        """An item of a list, numbered unless 0; items that follow one another are one list."""
        words = on_one_line(text)
        if words:
            mark = f"{number}." if number else "-"
            self._line(BlockKind.LIST, f"{'  ' * min(depth, 6)}{mark} {words}")

    def table(self, rows: Sequence[Sequence[str]], *, header: bool) -> None:
        """A table; with ``header`` its first row names the columns."""
        filled = [cells for row in rows if any(cells := [on_one_line(cell) for cell in row])]
        self._close()
        if len(filled) == 1 or all(len(row) == 1 for row in filled):
            for row in filled:
                self.paragraph(" | ".join(cell for cell in row if cell))
        elif header and len(filled) > _MOST_PIPED_ROWS:
            self.records(filled[0], filled[1:])
        else:
            width = max((len(row) for row in filled), default=0)
            for number, row in enumerate(filled):
                line = f"| {' | '.join([*row, *[''] * (width - len(row))])} |"
                rule = f"\n|{' --- |' * width}" if header and not number else ""
                self._line(BlockKind.TABLE, line + rule)
        self._close()

    def records(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows that name their columns: ``name: value; name: value``."""
        for row in rows:
            self.record([(names[at] if at < len(names) else "", cell) for at, cell in enumerate(row)])

    def record(self, pairs: Sequence[tuple[str, str]]) -> None:
        """One such row.  Pairs without a value are left out."""
        told = [(on_one_line(name), on_one_line(value)) for name, value in pairs]
        line = "; ".join(f"{name}: {value}" if name else value for name, value in told if value)
        if line:
            self._line(BlockKind.TABLE, line)

    def finish(self, notice: str = "") -> Converted:
        """The document."""
        self._close()
        self._turn()
        text = "".join(self._parts)
        return Converted(text, Outline(self._title, tuple(self._blocks)), tuple(self._pages), notice)

    def _block(self, kind: BlockKind, piece: str, level: int = 0) -> None:
        self._close()
        if piece.strip():
            start = self._append(piece, "\n\n")
            units = tuple((start + first, start + last) for first, last in units_of(piece, kind))
            self._blocks.append(Block(kind, level, self._path(), units))

    def _line(self, kind: BlockKind, line: str) -> None:
        """A unit of a list or a table."""
        if self._open is None or self._open[0] is not kind:
            self._close()
            self._open = (kind, [])
        start = self._append(line, "\n" if self._open[1] else "\n\n")
        lead = len(line) - len(line.lstrip())
        self._open[1].append((start + lead, start + len(line.rstrip())))

    def _close(self) -> None:
        if self._open is not None:
            kind, units = self._open
            self._blocks.append(Block(kind, 0, self._path(), tuple(units)))
            self._open = None

    def _path(self) -> tuple[str, ...]:
        return tuple(name for _, name in self._headings)

    def _append(self, piece: str, separator: str) -> int:
        """Where the piece begins."""
        if self._parts:
            self._parts.append(separator)
            self._length += len(separator)
        start = self._length
        self._turn()
        self._parts.append(piece)
        self._length += len(piece)
        if self._length > self._most:
            raise Unreadable(f"its text grows to more than {self._most} characters", "Split it.")
        return start

    def _turn(self) -> None:
        """The pages that were turned begin here."""
        self._pages += [self._length] * self._turned
        self._turned = 0
