"""From the bytes of a document to the text that everything else counts in.

Invariant: offsets, versions and citations all refer to this normalised text: decoded,
line ends as ``\\n``, Unicode NFC.  Bytes that are not surely text are refused, with what
is wrong and what to do, rather than guessed at.
"""

import hashlib
import unicodedata
from dataclasses import dataclass

from services.chassis.errors import Failure, Reason
from services.retriever.documents import media
from services.retriever.documents.media import MediaType, Source
from services.retriever.formats.charsets import decoded, require_readable
from services.retriever.formats.unreadable import Unreadable


@dataclass(frozen=True, slots=True)
class NormalisedText:
    """The text of a version.  ``version`` is its SHA-256, ``source_sha256`` that of the bytes, both hexadecimal.

    ``charset`` is that which was named for the bytes; empty where nobody named one.
    """

    text: str
    version: str
    source_sha256: str
    media_type: MediaType
    charset: str = ""
    # Of the bytes that it was read from.
    source_bytes: int = 0


@dataclass(frozen=True, slots=True)
class UnreadSource:
    """A document that must be converted to become text.  ``charset`` is empty where nobody named one."""

    content: bytes
    source_sha256: str
    media_type: MediaType
    charset: str

    @property
    def source_bytes(self) -> int:
        """How many there are."""
        return len(self.content)


def read(source: Source, limit_bytes: int) -> NormalisedText | UnreadSource:
    """Decode and normalise a document that is text; one that is not comes back as it is, to be converted.

    Raises DOCUMENT_TOO_LARGE, DOCUMENT_NOT_TEXT (with the problem and its remedy) and
    DOCUMENT_EMPTY.
    """
    require_size(source.name, len(source.content), limit_bytes)
    declared = media.of(source)
    sha256 = hashlib.sha256(source.content).hexdigest()
    if not declared.media_type.is_text:
        if not source.content:
            raise Failure(Reason.DOCUMENT_EMPTY, name=source.name)
        return UnreadSource(source.content, sha256, declared.media_type, declared.charset)
    try:
        text = normalised(decoded(source.content, declared.charset))
        require_readable(text)
    except Unreadable as error:
        raise media.not_text(source.name, error.problem, error.remedy) from None
    if not text.strip():
        raise Failure(Reason.DOCUMENT_EMPTY, name=source.name)
    return NormalisedText(text, version_of(text), sha256, declared.media_type, declared.charset, len(source.content))


def require_size(name: str, size_bytes: int, limit_bytes: int) -> None:
    """Raises DOCUMENT_TOO_LARGE."""
    if size_bytes > limit_bytes:
        raise Failure(Reason.DOCUMENT_TOO_LARGE, name=name, size_bytes=size_bytes, limit_bytes=limit_bytes)


def normalised(text: str) -> str:
    """The one form in which characters are counted."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def version_of(text: str) -> str:
    """The name of a normalised text: its SHA-256, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
