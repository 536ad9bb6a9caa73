"""Documents of each format, built by code, whose words and places a test knows."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import docx
from docx.document import Document
from fpdf import FPDF
from pptx import Presentation
from pptx.presentation import Presentation as Slides
from pptx.util import Inches

WORD = "docx"
SLIDES = "pptx"


def word(write: Callable[[Document], None]) -> bytes:
    """A Word document; ``write`` fills it."""
    document = docx.Document()
    write(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def plain_word(*paragraphs: str) -> bytes:
    """A Word document of these paragraphs."""

    def write(document: Document) -> None:
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)

    return word(write)


def slides(*slides_wanted: Sequence[str]) -> bytes:
    """A presentation: of each slide the title, then its points."""
    presentation = Presentation()
    for title, *points in slides_wanted:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(points)
    return saved(presentation)


def slide_with_table(title: str, rows: Sequence[Sequence[str]], notes: str) -> bytes:
    """A presentation of one slide with a table and notes."""
    presentation = Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = title
    table = slide.shapes.add_table(len(rows), len(rows[0]), Inches(1), Inches(2), Inches(6), Inches(2)).table
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            table.cell(y, x).text = cell
    slide.notes_slide.notes_text_frame.text = notes
    return saved(presentation)


def saved(presentation: Slides) -> bytes:
    """The presentation's bytes."""
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def pdf(*pages: str, password: str = "") -> bytes:
    """A PDF of these pages of text."""
    made = FPDF()
    # The same bytes in every second.
    made.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    for text in pages:
        made.add_page()
        made.set_font("Helvetica", size=11)
        if text:
            made.multi_cell(0, 6, text)
    if password:
        made.set_encryption(owner_password=password, user_password=password)
    return bytes(made.output())


def zipped(parts: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def parts_of(archive: bytes) -> dict[str, bytes]:
    """The parts of an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def with_parts(archive: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """The archive with parts replaced or, for None, left out."""
    parts = {**parts_of(archive), **changes}
    return zipped({name: content for name, content in parts.items() if content is not None})
