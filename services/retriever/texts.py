"""From the bytes of a document to the text that everything else counts in.

Invariant: offsets, versions and citations all refer to this normalised text: decoded,
line ends as ``\\n``, Unicode NFC.  Bytes that are not surely text are refused, with what
is wrong and what to do, rather than guessed at.
"""

import codecs
import hashlib
import unicodedata
from dataclasses import dataclass
from email.message import Message
from enum import StrEnum

from charset_normalizer import from_bytes

from services.chassis.errors import Failure, Reason


class MediaType(StrEnum):
    """What is read in this version."""

    MARKDOWN = "text/markdown"
    PLAIN = "text/plain"


@dataclass(frozen=True, slots=True)
class Source:
    """A document as it came: ``name`` for messages, ``media_type`` as the client said it (may be empty)."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class NormalisedText:
    """The text of a version.  ``version`` is its SHA-256, ``source_sha256`` that of the bytes, both hexadecimal."""

    text: str
    version: str
    source_sha256: str
    media_type: MediaType


_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNATURES = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive, as .docx, .xlsx and .epub are"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"{\\rtf", "an RTF document"),
)
_CONVERT = "Convert it to Markdown or plain text first."
_ALLOWED_CONTROLS = frozenset("\t\n\f\x1b")
_MOST_CONTROLS = 0.02
_SAMPLE_BYTES = 64 * 1024


def read(source: Source, limit_bytes: int) -> NormalisedText:
    """Decode and normalise a document.

    Raises DOCUMENT_TOO_LARGE, DOCUMENT_NOT_TEXT (with the problem and its remedy) and
    DOCUMENT_EMPTY.
    """
    require_size(source.name, len(source.content), limit_bytes)
    media_type, charset = _declared(source)
    text = normalised(_decoded(source, charset))
    _require_readable(source.name, text)
    if not text.strip():
        raise Failure(Reason.DOCUMENT_EMPTY, name=source.name)
    return NormalisedText(
        text,
        hashlib.sha256(text.encode()).hexdigest(),
        hashlib.sha256(source.content).hexdigest(),
        media_type,
    )


def require_size(name: str, size_bytes: int, limit_bytes: int) -> None:
    """Raises DOCUMENT_TOO_LARGE."""
    if size_bytes > limit_bytes:
        raise Failure(Reason.DOCUMENT_TOO_LARGE, name=name, size_bytes=size_bytes, limit_bytes=limit_bytes)


def normalised(text: str) -> str:
    """The one form in which characters are counted."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def _declared(source: Source) -> tuple[MediaType, str]:
    """Media type and charset as the client said, else by the name's ending."""
    if not source.media_type:
        markdown = source.name.lower().endswith((".md", ".markdown", ".mdown"))
        return (MediaType.MARKDOWN if markdown else MediaType.PLAIN), ""
    header = Message()
    header["content-type"] = source.media_type
    kind = header.get_content_type()
    if kind == "text/x-markdown":
        kind = MediaType.MARKDOWN
    if kind not in list(MediaType):
        raise _not_text(source.name, f"the media type {kind} is not read in this version", _CONVERT)
    return MediaType(kind), str(header.get_content_charset() or "")


# Codecs whose time is linear in the bytes; Python has others (punycode, idna) that a short
# document can keep busy for hours.
_CHARSETS = frozenset(
    {
        "ascii", "big5", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "euc_jp", "euc_kr", "gb18030",
        "gbk", "iso8859-1", "iso8859-2", "iso8859-5", "iso8859-9", "iso8859-15", "koi8-r", "koi8-u", "mac-roman",
        "shift_jis", "utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be", "utf-32-le", "utf-8", "utf-8-sig",
    }
)  # fmt: skip


def _decoded(source: Source, charset: str) -> str:
    for signature, what in _SIGNATURES:
        if source.content.startswith(signature):
            raise _not_text(source.name, f"it is {what}", _CONVERT)
    boms = (name for bom, name in _BOMS if source.content.startswith(bom))
    encoding = next(boms, "") or charset or "utf-8"
    try:
        if codecs.lookup(encoding).name not in _CHARSETS:
            raise LookupError(encoding)
        text = source.content.decode(encoding)
        text.encode()  # a lone surrogate decodes under some charsets, and can be stored under none
    except LookupError:
        remedy = f"Send UTF-8, or one of {', '.join(sorted(_CHARSETS))}."
        raise _not_text(source.name, f"the charset {encoding} is not read", remedy) from None
    except UnicodeEncodeError:
        raise _not_text(source.name, f"as {encoding} it holds half a character", _CONVERT) from None
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not {encoding}"
        raise _not_text(source.name, problem, _encoding_remedy(source.content)) from None
    return text


def _encoding_remedy(content: bytes) -> str:
    """What to do about bytes of another encoding.  A guess is good enough to help, not to store."""
    if b"\x00" in content[:_SAMPLE_BYTES]:
        return "Binary files cannot be searched; send the text in them."
    guess = from_bytes(content[:_SAMPLE_BYTES]).best()
    if guess is None:
        return "Send UTF-8."
    return f"Send UTF-8, or name the charset in the media type; it looks like 'text/plain; charset={guess.encoding}'."


def _require_readable(name: str, text: str) -> None:
    zero = text.find("\x00")
    if zero >= 0:
        remedy = "Binary files cannot be searched; send the text in them."
        raise _not_text(name, f"character {zero} is NUL", remedy)
    controls = sum(1 for character in text if character < " " and character not in _ALLOWED_CONTROLS)
    if controls > len(text) * _MOST_CONTROLS:
        problem = f"{controls} of its {len(text)} characters are control characters"
        raise _not_text(name, problem, "Binary files cannot be searched; send the text in them.")


def _not_text(name: str, problem: str, remedy: str) -> Failure:
    return Failure(Reason.DOCUMENT_NOT_TEXT, name=name, problem=problem, remedy=remedy)
