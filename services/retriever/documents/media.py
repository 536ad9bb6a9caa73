"""Which kind of document bytes are: as the client says, else as the name ends, else as they begin.

Invariant: what is not read is refused here, by what it is and with what to do, before anything is stored.
"""

from dataclasses import dataclass
from email.message import Message
from enum import StrEnum

from services.chassis.errors import Failure, Reason
from services.retriever.formats.charsets import CONVERT, known_as


class MediaType(StrEnum):
    """What is read in this version."""

    MARKDOWN = "text/markdown"
    PLAIN = "text/plain"
    HTML = "text/html"
    CSV = "text/csv"
    TSV = "text/tab-separated-values"
    JSON = "application/json"
    JSON_LINES = "application/x-ndjson"
    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"

    @property
    def is_text(self) -> bool:
        """Whether the document is the text that is searched; all others are converted to it."""
        return self in (MediaType.MARKDOWN, MediaType.PLAIN)


@dataclass(frozen=True, slots=True)
class Source:
    """A document as it came: ``name`` for messages, ``media_type`` as the client said it (may be empty)."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Declared:
    """What a document is; ``charset`` is empty where nobody named one, or where the kind has none."""

    media_type: MediaType
    charset: str


# Columns hold no more; a name that long is none.
_MOST_CHARSET = 64
_WITHOUT_CHARSET = frozenset({MediaType.PDF, MediaType.DOCX, MediaType.PPTX})
_ALIASES = {
    "text/x-markdown": MediaType.MARKDOWN,
    "application/xhtml+xml": MediaType.HTML,
    "application/csv": MediaType.CSV,
    "text/json": MediaType.JSON,
    "application/jsonl": MediaType.JSON_LINES,
    "application/json-lines": MediaType.JSON_LINES,
    "application/x-jsonlines": MediaType.JSON_LINES,
    "application/ndjson": MediaType.JSON_LINES,
    "application/x-pdf": MediaType.PDF,
}
# Said by clients that do not know.
_UNTOLD = ("", "application/octet-stream", "binary/octet-stream")
_ENDINGS = {
    ".md": MediaType.MARKDOWN,
    ".markdown": MediaType.MARKDOWN,
    ".mdown": MediaType.MARKDOWN,
    ".txt": MediaType.PLAIN,
    ".text": MediaType.PLAIN,
    ".html": MediaType.HTML,
    ".htm": MediaType.HTML,
    ".xhtml": MediaType.HTML,
    ".csv": MediaType.CSV,
    ".tsv": MediaType.TSV,
    ".json": MediaType.JSON,
    ".jsonl": MediaType.JSON_LINES,
    ".ndjson": MediaType.JSON_LINES,
    ".pdf": MediaType.PDF,
    ".docx": MediaType.DOCX,
    ".pptx": MediaType.PPTX,
}
_SAVE_AS = "Save it as {} without macros, and send that."
_REFUSED_ENDINGS = {
    ".docm": ("it may hold macros", _SAVE_AS.format(".docx")),
    ".dotm": ("it may hold macros", _SAVE_AS.format(".docx")),
    ".pptm": ("it may hold macros", _SAVE_AS.format(".pptx")),
    ".ppsm": ("it may hold macros", _SAVE_AS.format(".pptx")),
    ".doc": ("it is an old Word document", "Save it as .docx, and send that."),
    ".ppt": ("it is an old PowerPoint document", "Save it as .pptx, and send that."),
}
_SIGNATURES = (
    (b"PK\x03\x04", "a ZIP archive, as .xlsx and .epub are"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"{\\rtf", "an RTF document"),
)
_PDF_SIGNATURE = b"%PDF-"
_HTML_BEGINNINGS = (b"<!doctype html", b"<html")


def of(source: Source) -> Declared:
    """What the document is.  Raises DOCUMENT_NOT_TEXT."""
    header = Message()
    header["content-type"] = source.media_type or "application/octet-stream"
    kind, charset = header.get_content_type(), _charset(str(header.get_content_charset() or ""))
    if kind not in _UNTOLD:
        known = _ALIASES.get(kind) or next((it for it in MediaType if it == kind), None)
        if known is None:
            raise not_text(source.name, f"the media type {kind} is not read in this version", CONVERT)
        return _not_binary(source, _declared(known, charset))
    ending = _ending(source.name)
    if ending in _REFUSED_ENDINGS:
        problem, remedy = _REFUSED_ENDINGS[ending]
        raise not_text(source.name, problem, remedy)
    return _not_binary(source, _declared(_ENDINGS.get(ending) or _by_signature(source.content), charset))


def _declared(kind: MediaType, charset: str) -> Declared:
    return Declared(kind, "" if kind in _WITHOUT_CHARSET else charset)


def _charset(named: str) -> str:
    """By its one name, so that what is stored does not depend on which of them was said; what is none, to be refused."""
    return known_as(named) or "".join(filter(str.isprintable, named))[:_MOST_CHARSET]


def by_ending(name: str) -> MediaType | None:
    """What a document of this name is; None where its ending does not say."""
    return _ENDINGS.get(_ending(name))


def _ending(name: str) -> str:
    return name[name.rfind(".") :].lower()


def not_text(name: str, problem: str, remedy: str) -> Failure:
    """The failure of a document that is not read."""
    return Failure(Reason.DOCUMENT_NOT_TEXT, name=name, problem=problem, remedy=remedy)


def _by_signature(content: bytes) -> MediaType:
    if content.startswith(_PDF_SIGNATURE):
        return MediaType.PDF
    if content.startswith(b"PK\x03\x04"):
        # The names of an archive's files stand in it as they are.
        if b"word/document.xml" in content:
            return MediaType.DOCX
        if b"ppt/presentation.xml" in content:
            return MediaType.PPTX
    beginning = content[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return MediaType.HTML if beginning.startswith(_HTML_BEGINNINGS) else MediaType.PLAIN


def _not_binary(source: Source, declared: Declared) -> Declared:
    """The same, unless it should be text and begins like something else."""
    if declared.media_type.is_text:
        if source.content.startswith(_PDF_SIGNATURE):
            raise not_text(source.name, "it is a PDF", "Send it under its own name or media type.")
        for signature, what in _SIGNATURES:
            if source.content.startswith(signature):
                raise not_text(source.name, f"it is {what}", CONVERT)
    return declared
