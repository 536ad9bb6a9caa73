"""Presentations (.pptx) to text: a slide is a page under its title, with lists, tables, figures of charts and notes.

Invariant: the shapes of a slide are read from top to bottom, whatever their order in the file.
"""

import io
from collections.abc import Iterator
from typing import Any

from pptx import Presentation
from pptx.enum.shapes import PP_PLACEHOLDER

from services.retriever.formats.archives import require_sound
from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.writer import Converted, Writer, on_one_line

_MOST_SLIDES = 10_000
_MOST_NESTING = 20
_FURNITURE = {PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.HEADER}
_OUTLINED = {PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT}


def converted(content: bytes, most_characters: int) -> Converted:
    """The presentation as text.  Raises Unreadable."""
    require_sound(content, "ppt/presentation.xml", "PowerPoint presentation")
    slides = Presentation(io.BytesIO(content)).slides
    if len(slides) > _MOST_SLIDES:
        raise Unreadable(f"it has {len(slides)} slides, more than {_MOST_SLIDES}", "Split it.")
    writer = Writer(most_characters)
    for slide in slides:
        writer.page()
        _write(writer, slide)
    return writer.finish()


def _write(writer: Writer, slide: Any) -> None:
    title = slide.shapes.title
    if title is not None:
        writer.heading(1, title.text_frame.text)
    shapes = [shape for shape in _flat(slide.shapes, 0) if title is None or shape.shape_id != title.shape_id]
    for shape in sorted(shapes, key=lambda it: (it.top or 0, it.left or 0)):
        _write_shape(writer, shape)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = on_one_line(slide.notes_slide.notes_text_frame.text)
        if notes:
            writer.paragraph(f"Notes: {notes}")


def _flat(shapes: Any, depth: int) -> Iterator[Any]:
    """The shapes, those of groups among them."""
    if depth > _MOST_NESTING:
        raise Unreadable("its shapes are nested too deeply", "Save it anew in PowerPoint, and send that.")
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _flat(shape.shapes, depth + 1)
        elif not (shape.is_placeholder and shape.placeholder_format.type in _FURNITURE):
            yield shape


def _write_shape(writer: Writer, shape: Any) -> None:
    if getattr(shape, "has_table", False):
        rows = [["" if cell.is_spanned else cell.text_frame.text for cell in row.cells] for row in shape.table.rows]
        writer.table(rows, header=bool(shape.table.first_row))
    elif getattr(shape, "has_chart", False):
        _write_chart(writer, shape.chart)
    elif shape.has_text_frame:
        paragraphs = [it for it in shape.text_frame.paragraphs if it.text.strip()]
        outlined = shape.is_placeholder and shape.placeholder_format.type in _OUTLINED
        for paragraph in paragraphs:
            text = paragraph.text.replace("\v", "\n")
            if paragraph.level or (outlined and len(paragraphs) > 1):
                writer.item(text, paragraph.level)
            else:
                writer.paragraph(text)


def _write_chart(writer: Writer, chart: Any) -> None:
    """The figures that a chart draws, as the table that they are."""
    if chart.has_title and chart.chart_title.has_text_frame:
        writer.paragraph(chart.chart_title.text_frame.text)
    for plot in chart.plots:
        series = list(plot.series)
        names = [str(label) for label in plot.categories]
        rows = [[name, *(_figure(one.values, at) for one in series)] for at, name in enumerate(names)]
        writer.table([["", *(one.name for one in series)], *rows], header=True)


def _figure(values: Any, at: int) -> str:
    value = values[at] if at < len(values) else None
    return "" if value is None else f"{value:g}"
