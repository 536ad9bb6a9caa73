"""The lines of a PDF page, with their places and type, as PDFium finds its characters.

PDFium is asked for each character by the raw call: its Python objects cost ten times as much, and a report has
millions.  Invariant: every character of the page's text layer is in one line, in the order of the file.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pypdfium2.raw as pdfium

# Two pieces of one line that are further apart than this many letter heights are two cells, or two columns.
_CELL_GAP = 1.2
_WORD_GAP = 0.22
# Of their height, on one line: raised and lowered letters keep as much.
_LEAST_SHARED = 0.2
_BOLD_WEIGHT = 600
_BOLD_FLAG = 1 << 18
_BOLD_NAMES = ("bold", "black", "heavy", "semibold", "demi")
# What PDFium puts for a hyphen at the end of a line.
_LINE_HYPHENS = {0x02: "-", 0xFFFE: "-", 0xAD: "-", 0x2010: "-"}
_FONT_NAME_BYTES = 128


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of text on one base line.  Coordinates in points from the top left; ``size`` is the letters' height."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    bold: bool

    @property
    def width(self) -> float:
        """From its first to its last character."""
        return self.right - self.left

    def joined(self, other: "Line", separator: str) -> "Line":
        """Both on one line, the other behind."""
        return replace(
            self,
            text=f"{self.text}{separator}{other.text}",
            left=min(self.left, other.left),
            top=min(self.top, other.top),
            right=max(self.right, other.right),
            bottom=max(self.bottom, other.bottom),
            bold=self.bold and other.bold,
        )


@dataclass(slots=True)
class _Glyph:
    character: str
    left: float
    top: float
    right: float
    bottom: float
    index: int
    # Whether PDFium sees a space before it.
    spaced: bool


def lines_of(text_page: Any, height: float) -> list[Line]:
    """The lines of a page of this height in points."""
    return [line for run in _runs(_glyphs(text_page, height)) if (line := _line(text_page, run)) is not None]


def _glyphs(text_page: Any, height: float) -> Iterator[_Glyph | None]:
    """The characters in the order of the file; None where PDFium sees a line end."""
    # The loose box: a letter's place on the line, not its ink, or the air around a 1 would look like a space.
    box = pdfium.FS_RECTF()
    place = ctypes.byref(box)
    unicode_of, box_of, is_generated = (
        pdfium.FPDFText_GetUnicode,
        pdfium.FPDFText_GetLooseCharBox,
        pdfium.FPDFText_IsGenerated,
    )
    high = 0
    spaced = False
    for index in range(pdfium.FPDFText_CountChars(text_page)):
        code = unicode_of(text_page, index)
        if code in (0x0A, 0x0D):
            yield None
            continue
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if high and 0xDC00 <= code < 0xE000:
            code, high = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00), 0
        character = _LINE_HYPHENS.get(code) or (chr(code) if code >= 0x20 else " ")
        if character == " " and is_generated(text_page, index) == 1:
            # It has no place of its own.
            spaced = True
            continue
        box_of(text_page, index, place)
        yield _Glyph(character, box.left, height - box.top, box.right, height - box.bottom, index, spaced)
        spaced = False


def _runs(glyphs: Iterator[_Glyph | None]) -> Iterator[list[_Glyph]]:
    """Characters that follow one another on one base line without a gap as wide as a column's."""
    run: list[_Glyph] = []
    tallest = 0.0
    for glyph in glyphs:
        if glyph is None or (run and _breaks(run[-1], glyph, tallest)):
            if run:
                yield run
            run, tallest = [], 0.0
        if glyph is not None:
            run.append(glyph)
            tallest = max(tallest, glyph.bottom - glyph.top)
    if run:
        yield run


def _breaks(last: _Glyph, glyph: _Glyph, tallest: float) -> bool:
    if glyph.character == " " or last.character == " ":
        return False
    height = glyph.bottom - glyph.top
    shared = min(glyph.bottom, last.bottom) - max(glyph.top, last.top)
    reach = max(tallest, height, 1.0)
    elsewhere = shared <= _LEAST_SHARED * min(height, last.bottom - last.top)
    return elsewhere or glyph.left - last.right > _CELL_GAP * reach or glyph.right < last.left - reach


def _line(text_page: Any, run: list[_Glyph]) -> Line | None:
    """The run as a line; None if it is blank."""
    inked = [glyph for glyph in run if not glyph.character.isspace()]
    if not inked:
        return None
    size = float(pdfium.FPDFText_GetFontSize(text_page, inked[0].index))
    heights = sorted(glyph.bottom - glyph.top for glyph in inked)
    letter = heights[len(heights) // 2]
    # A font's size may be in units of its own; a letter's box is a little higher than the size.
    if not 0.6 * letter <= size <= 1.2 * letter:
        size = letter / 1.2
    return Line(
        " ".join(_spaced(run, max(size, 1.0)).split()),
        min(glyph.left for glyph in inked),
        min(glyph.top for glyph in inked),
        max(glyph.right for glyph in inked),
        max(glyph.bottom for glyph in inked),
        round(size * 2) / 2,
        _is_bold(text_page, inked[len(inked) // 2].index),
    )


def _spaced(run: list[_Glyph], size: float) -> str:
    """The characters, with a space where there is a gap as wide as one."""
    parts: list[str] = []
    last: _Glyph | None = None
    for glyph in run:
        if last is not None and (glyph.spaced or glyph.left - last.right > _WORD_GAP * size):
            parts.append(" ")
        parts.append(glyph.character)
        last = None if glyph.character == " " else glyph
    return "".join(parts)


def _is_bold(text_page: Any, index: int) -> bool:
    if pdfium.FPDFText_GetFontWeight(text_page, index) >= _BOLD_WEIGHT:
        return True
    flags = ctypes.c_int()
    name = ctypes.create_string_buffer(_FONT_NAME_BYTES)
    pdfium.FPDFText_GetFontInfo(text_page, index, name, _FONT_NAME_BYTES, ctypes.byref(flags))
    called = name.value.decode("utf-8", "replace").lower()
    return bool(flags.value & _BOLD_FLAG) or any(part in called for part in _BOLD_NAMES)
