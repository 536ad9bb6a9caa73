"""Word documents (.docx) to text: headings by style, lists, tables in reading order, notes at the end.

The body is walked over its own elements, because the library's paragraphs leave out what stands in content controls,
insertions and text boxes.  Invariants: what was deleted under tracked changes is not read; every text is read once.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

import docx
from docx.oxml.ns import qn
from lxml import etree

from services.retriever.formats.archives import require_sound
from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.word_numbering import Numbering, value_of
from services.retriever.formats.writer import Converted, Writer, on_one_line

_HEADING_NAME = re.compile(r"heading\s*(\d)$", re.IGNORECASE)
_WRAPPERS = {qn(name) for name in ("w:sdt", "w:sdtContent", "w:customXml", "w:ins", "w:moveTo", "w:smartTag")}
_PARAGRAPH, _TABLE, _TEXT = qn("w:p"), qn("w:tbl"), qn("w:t")
_DELETED = {qn(name) for name in ("w:del", "w:moveFrom", "w:rPrChange", "w:pPrChange")}
_BOX = qn("w:txbxContent")
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_CHARACTERS = {
    qn("w:tab"): "\t",
    qn("w:br"): "\n",
    qn("w:cr"): "\n",
    qn("w:noBreakHyphen"): "-",
}
_MATHS = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_NOTES = ("/footnotes", "/endnotes")
_MOST_NESTING = 50
_MOST_REPEATED_CHARACTERS = 100


def converted(content: bytes, most_characters: int) -> Converted:
    """The document as text.  Raises Unreadable."""
    require_sound(content, "word/document.xml", "Word document")
    document = docx.Document(io.BytesIO(content))
    writer = Writer(most_characters)
    _Reading(writer, _levels(document), Numbering.of(document)).blocks(document.element.body, 0)
    for note in _notes(document):
        writer.paragraph(note)
    return writer.finish()


def _levels(document: Any) -> dict[str, int]:
    """By style id the level of a heading; 1 for the title."""
    styles = {style.get(qn("w:styleId")): style for style in document.styles.element.iter(qn("w:style"))}
    return {name: level for name in styles if name and (level := _level(styles, name))}


def _level(styles: dict[str, Any], name: str) -> int:
    """The level that the style, or one that it is based on, gives; 0 for text."""
    for _ in range(_MOST_NESTING):
        style = styles.get(name)
        if style is None:
            return 0
        called = value_of(style.find(qn("w:name")))
        if called.lower() == "title":
            return 1
        match = _HEADING_NAME.match(called)
        if match:
            return int(match.group(1))
        outline = value_of(style.find(f"{qn('w:pPr')}/{qn('w:outlineLvl')}"))
        if outline.isdigit() and len(outline) == 1:
            return int(outline) + 1 if int(outline) < 9 else 0
        name = value_of(style.find(qn("w:basedOn")))
    return 0


class _Reading:
    """A pass over the body.  ``levels`` are those of :func:`_levels`."""

    def __init__(self, writer: Writer, levels: dict[str, int], numbering: Numbering) -> None:
        self._writer = writer
        self._numbering = numbering
        self._levels = levels

    def blocks(self, parent: Any, depth: int) -> None:
        """Paragraphs and tables in order."""
        if depth > _MOST_NESTING:
            raise Unreadable("its parts are nested too deeply", "Save it anew in Word, and send that.")
        for element in parent:
            if element.tag == _PARAGRAPH:
                self._paragraph(element, depth)
            elif element.tag == _TABLE:
                self._table(element)
            elif element.tag in _WRAPPERS:
                self.blocks(element, depth + 1)

    def _paragraph(self, element: Any, depth: int) -> None:
        text = _text(element)
        properties = element.find(qn("w:pPr"))
        level = self._heading_level(properties)
        if level and text.strip():
            self._writer.heading(level, text)
        elif properties is not None and properties.find(qn("w:numPr")) is not None:
            indent = value_of(properties.find(f"{qn('w:numPr')}/{qn('w:ilvl')}"))
            depth = int(indent) if indent.isdigit() and len(indent) == 1 else 0
            listed = value_of(properties.find(f"{qn('w:numPr')}/{qn('w:numId')}"))
            self._writer.item(text, depth, self._numbering.next(listed, depth) if text.strip() else 0)
        elif self._is_listed(properties):
            self._writer.item(text)
        else:
            self._writer.paragraph(text)
        for box in _boxes(element):
            self.blocks(box, depth + 1)

    def _heading_level(self, properties: Any) -> int:
        if properties is None:
            return 0
        outline = value_of(properties.find(qn("w:outlineLvl")))
        if outline.isdigit() and len(outline) == 1 and int(outline) < 9:
            return int(outline) + 1
        return self._levels.get(value_of(properties.find(qn("w:pStyle"))), 0)

    def _is_listed(self, properties: Any) -> bool:
        style = "" if properties is None else value_of(properties.find(qn("w:pStyle")))
        return style.startswith("List") and style != "ListParagraph"

    def _table(self, element: Any) -> None:
        rows: list[list[str]] = []
        for row in element.iter(qn("w:tr")):
            if next(row.iterancestors(_TABLE)) is element:
                rows.append(_cells(row, rows[-1] if rows else []))
        self._writer.table(rows, header=len(rows) > 1)


def _cells(row: Any, above: list[str]) -> list[str]:
    """The texts of a row; a cell that a merged one reaches down into repeats it."""
    cells: list[str] = []
    for cell in row.iter(qn("w:tc")):
        if next(cell.iterancestors(qn("w:tr"))) is not row:
            continue
        merged = cell.find(f"{qn('w:tcPr')}/{qn('w:vMerge')}")
        reached = merged is not None and value_of(merged) != "restart" and len(cells) < len(above)
        text = " ".join(_text(paragraph) for paragraph in cell.iter(_PARAGRAPH) if _reads(paragraph))
        if reached and not text.strip():
            text = above[len(cells)] if len(above[len(cells)]) <= _MOST_REPEATED_CHARACTERS else ""
        cells.append(on_one_line(text))
    return cells


def _reads(paragraph: Any) -> bool:
    """Whether the paragraph is not a repetition for older programs."""
    return next(paragraph.iterancestors(_FALLBACK), None) is None


def _text(paragraph: Any) -> str:
    """The characters of a paragraph, without those of text boxes in it."""
    words: list[str] = []
    stack = [iter(paragraph)]
    while stack:
        element = next(stack[-1], None)
        if element is None:
            stack.pop()
        elif element.tag in (_TEXT, _MATHS):
            words.append(element.text or "")
        elif element.tag in _CHARACTERS and element.getparent().tag == qn("w:r"):
            words.append(_CHARACTERS[element.tag])
        elif element.tag not in _DELETED and element.tag not in (_BOX, _FALLBACK):
            stack.append(iter(element))
    return "".join(words)


def _boxes(paragraph: Any) -> Iterator[Any]:
    """The text boxes that are anchored in the paragraph itself."""
    for box in paragraph.iter(_BOX):
        if next(box.iterancestors(_PARAGRAPH), None) is paragraph and next(box.iterancestors(_FALLBACK), None) is None:
            yield box


def _notes(document: Any) -> Iterator[str]:
    """Footnotes and endnotes, each a text."""
    for relation in document.part.rels.values():
        if not relation.is_external and relation.reltype.endswith(_NOTES):
            parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
            root = etree.fromstring(relation.target_part.blob, parser)
            for note in root:
                if note.get(qn("w:type")) in (None, "normal"):
                    yield " ".join(_text(paragraph) for paragraph in note.iter(_PARAGRAPH))
