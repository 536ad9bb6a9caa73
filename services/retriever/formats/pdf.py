"""PDF to text: pages in reading order, paragraphs mended over line ends, headings by bookmarks or by type, tables.

Invariants: a block lies on one page, so a passage has a first and a last page; a PDF without a text layer is named as
such, and so is one that is locked.
"""

from contextlib import closing
from typing import Any

import pypdfium2
from pypdfium2 import PdfiumError

from services.retriever.formats.pdf_furniture import without_furniture
from services.retriever.formats.pdf_lines import lines_of
from services.retriever.formats.pdf_order import Row, in_order
from services.retriever.formats.pdf_structure import Bookmarks, write_pages
from services.retriever.formats.unreadable import Unreadable, damaged
from services.retriever.formats.writer import Converted, Writer

_MOST_PAGES = 20_000
# A page with fewer is a picture with a stamp on it.
_FEW_CHARACTERS = 20
_MOST_BOOKMARKS = 10_000
_PASSWORD_WORDS = ("password", "security")


def converted(content: bytes, most_characters: int) -> Converted:
    """The document as text.  Raises Unreadable."""
    with closing(_opened(content)) as document:
        if len(document) > _MOST_PAGES:
            raise Unreadable(f"it has {len(document)} pages, more than {_MOST_PAGES}", "Split it.")
        pages: list[list[Row]] = []
        pictured = characters = 0
        for number in range(len(document)):
            rows, has_picture = _page(document, number)
            letters = sum(len(cell.text) for row in rows for cell in row.cells)
            characters += letters
            if characters > most_characters:
                raise Unreadable(f"its text grows to more than {most_characters} characters", "Split it.")
            pictured += has_picture and letters < _FEW_CHARACTERS
            pages.append(rows)
        _require_text(pages, characters, pictured)
        writer = Writer(most_characters)
        write_pages(writer, without_furniture(pages), _bookmarks(document))
    return writer.finish(_notice(pictured, len(pages)))


def _opened(content: bytes) -> Any:
    try:
        return pypdfium2.PdfDocument(content)
    except PdfiumError as error:
        # PDFium's last error may be that of another document; a locked one says so in its trailer.
        if b"/Encrypt" in content and any(word in str(error).lower() for word in _PASSWORD_WORDS):
            raise Unreadable("it is protected by a password", "Remove the password, and send it again.") from None
        raise damaged("PDF") from error


def _page(document: Any, number: int) -> tuple[list[Row], bool]:
    """The rows of a page in order, and whether a picture is on it."""
    try:
        page = document[number]
    except PdfiumError:
        # Readers show what they can of a damaged file, and so do we.
        return [], False
    with closing(page), closing(page.get_textpage()) as text_page:
        lines = lines_of(text_page.raw, page.get_height())
        rows = in_order(lines)
        letters = sum(len(line.text) for line in lines)
        kinds = {it.type for it in page.get_objects(max_depth=2)} if letters < _FEW_CHARACTERS else set()
        return rows, pypdfium2.raw.FPDF_PAGEOBJ_IMAGE in kinds


def _require_text(pages: list[list[Row]], characters: int, pictured: int) -> None:
    if not pages:
        raise damaged("PDF")
    if characters >= _FEW_CHARACTERS or (characters and not pictured):
        return
    if pictured:
        problem = f"it is a scanned PDF without text: {pictured} of its {len(pages)} pages are pictures"
        raise Unreadable(problem, "Run text recognition (OCR) over it, and send what that gives.")
    raise Unreadable("it is a PDF without text", "Send one whose text can be selected.")


def _notice(pictured: int, pages: int) -> str:
    if not pictured:
        return ""
    return f"{pictured} of its {pages} pages are pictures without text, which were not read."


def _bookmarks(document: Any) -> Bookmarks:
    """By page and title the level of a heading, as the document's own outline says."""
    found: dict[tuple[int, str], int] = {}
    try:
        for number, mark in enumerate(document.get_toc(max_depth=6)):
            if number >= _MOST_BOOKMARKS:
                break
            destination = mark.get_dest()
            page = destination.get_index() if destination is not None else None
            if page is not None:
                found.setdefault((page, Bookmarks.form(mark.get_title())), mark.level + 1)
    except (PdfiumError, ValueError):
        pass  # headings are then found by their type
    return Bookmarks(found)
