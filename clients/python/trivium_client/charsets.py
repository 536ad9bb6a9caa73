"""The charset of bytes that are not UTF-8: how it is called, and how the server is told it.

Invariant: a name that is none is refused before anything is read or sent; what a server does not read, it says itself.
"""

import codecs

# Kinds of documents that are characters; the others say themselves how theirs are written.
_TEXTUAL = ("text/", "application/json", "application/x-ndjson")
_DEFAULT = "utf-8"


def known_as(charset: str) -> str:
    """The one name of a charset that has many (latin-1 is iso8859-1); empty for empty.  Raises ValueError for none."""
    if not charset:
        return ""
    try:
        # Python knows other encodings than of characters, and says so only when they are used.
        "a".encode(charset)
        return codecs.lookup(charset).name
    except (LookupError, ValueError):
        problem = f"no charset is named {charset}; there are for instance latin-1, cp1252, cp850, shift_jis and utf-16"
        raise ValueError(problem) from None


def media_type(charset: str) -> str:
    """What is said of bytes in a charset of which the server finds out the kind; empty for empty.  Raises ValueError."""
    return f"application/octet-stream; charset={known_as(charset)}" if charset else ""


def is_read_as(held: str, charset: str) -> bool:
    """Whether a document of this media type, as the server tells it, was read under a charset (see `known_as`)."""
    kind, _, named = held.partition("; charset=")
    return not kind.startswith(_TEXTUAL) or (named or _DEFAULT) == charset
