"""One door for every format: bytes in, text with its blocks and pages out.

Runs in the limited child process.  Invariant: whatever a library raises over a hostile file leaves here as Unreadable,
except what says that a limit was reached, which is the child's to tell.
"""

from dataclasses import dataclass

from services.retriever.documents.media import MediaType
from services.retriever.formats import charsets
from services.retriever.formats.unreadable import Unreadable, damaged
from services.retriever.formats.writer import Converted, Writer

# Of the text over its source: a zip or a font can say much in few bytes, a person cannot.
_MOST_RATIO = 300
_SPARE_CHARACTERS = 1024 * 1024
_NAMES = {
    MediaType.HTML: "HTML page",
    MediaType.CSV: "CSV file",
    MediaType.TSV: "TSV file",
    MediaType.JSON: "JSON document",
    MediaType.JSON_LINES: "JSON Lines file",
    MediaType.PDF: "PDF",
    MediaType.DOCX: "Word document",
    MediaType.PPTX: "PowerPoint presentation",
}


@dataclass(frozen=True, slots=True)
class Raw:
    """What is to be converted.  ``most_characters`` bounds the text."""

    content: bytes
    media_type: MediaType
    charset: str
    most_characters: int


def convert(raw: Raw) -> Converted:
    """The document as text.  Raises Unreadable, MemoryError and TimeoutError."""
    try:
        found = _read(raw)
    except (Unreadable, MemoryError, TimeoutError):
        raise
    except RecursionError:
        raise Unreadable("it is nested too deeply", "Save it anew in the program that made it.") from None
    except Exception as error:
        # A library that is fed damaged bytes raises anything.
        raise damaged(_NAMES[raw.media_type]) from error
    if not found.text.strip():
        raise Unreadable("it holds no text", "Send one that does.")
    return found


def _read(raw: Raw) -> Converted:
    """Each reader is imported when it is first needed: a child that reads Markdown alone pays for none."""
    most = min(raw.most_characters, len(raw.content) * _MOST_RATIO + _SPARE_CHARACTERS)
    match raw.media_type:
        case MediaType.PDF:
            from services.retriever.formats import pdf

            return pdf.converted(raw.content, most)
        case MediaType.DOCX:
            from services.retriever.formats import word

            return word.converted(raw.content, most)
        case MediaType.PPTX:
            from services.retriever.formats import slides

            return slides.converted(raw.content, most)
        case MediaType.HTML:
            from services.retriever.formats import hypertext

            return hypertext.converted(raw.content, raw.charset, most)
        case _:
            return _read_data(raw, most)


def _read_data(raw: Raw, most: int) -> Converted:
    from services.retriever.formats import delimited, nested

    text = charsets.decoded(raw.content, raw.charset)
    charsets.require_readable(text)
    writer = Writer(most)
    match raw.media_type:
        case MediaType.JSON:
            return nested.converted(text, writer)
        case MediaType.JSON_LINES:
            return nested.converted_lines(text, writer)
        case MediaType.TSV:
            return delimited.converted(text, "\t", writer)
        case _:
            return delimited.converted(text, "", writer)
