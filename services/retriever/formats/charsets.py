"""Bytes to characters, under the charset that their sender, they themselves, or UTF-8 say.

Invariant: bytes that are not surely text under that charset are refused rather than guessed at.
"""

import codecs

from charset_normalizer import from_bytes

from services.retriever.formats.unreadable import Unreadable

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Codecs whose time is linear in the bytes; Python has others (punycode, idna) that a short
# document can keep busy for hours.
_CHARSETS = frozenset(
    {
        "ascii", "big5", "big5hkscs", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257",
        "cp1258", "cp437", "cp850", "cp852", "cp855", "cp858", "cp862", "cp866", "cp874", "cp932", "cp949", "cp950",
        "euc_jp", "euc_kr", "gb18030", "gb2312", "gbk", "iso8859-1", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5",
        "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15",
        "iso8859-16", "koi8-r", "koi8-u", "mac-cyrillic", "mac-greek", "mac-latin2", "mac-roman", "shift_jis",
        "tis-620", "utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be", "utf-32-le", "utf-8", "utf-8-sig",
    }
)  # fmt: skip
CONVERT = "Convert it to Markdown or plain text first."
BINARY = "Binary files cannot be searched; send the text in them."
_CONTROLS = tuple(chr(code) for code in range(0x20) if chr(code) not in "\t\n\r\f\x1b")
_MOST_CONTROLS = 0.02
_SAMPLE_BYTES = 64 * 1024
# Of charsets that differ in some letters, in a text that has few of them: what most such files are in.
_USUAL = "cp1252"
_AS_COHERENT = 0.05
_MOST_GUESSES = 3


def decoded(content: bytes, charset: str) -> str:
    """The characters.  A byte order mark counts before ``charset``, which may be empty.  Raises Unreadable."""
    boms = (name for bom, name in _BOMS if content.startswith(bom))
    encoding = next(boms, "") or charset or "utf-8"
    if known_as(encoding) not in _CHARSETS:
        raise Unreadable(
            f"the charset {encoding} is not read", f"Send UTF-8, or one of {', '.join(sorted(_CHARSETS))}."
        )
    try:
        text = content.decode(encoding)
        text.encode()  # a lone surrogate decodes under some charsets, and can be stored under none
    except UnicodeEncodeError:
        raise Unreadable(f"as {encoding} it holds half a character", CONVERT) from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {error.start} is not {encoding}", _encoding_remedy(content)) from None
    return text


def known_as(charset: str) -> str:
    """The one name of a charset that has many; empty for what is none."""
    try:
        return codecs.lookup(charset).name
    except (LookupError, ValueError):
        return ""


def require_readable(text: str) -> None:
    """Raises Unreadable for what decodes and is no text all the same."""
    zero = text.find("\x00")
    if zero >= 0:
        raise Unreadable(f"character {zero} is NUL", BINARY)
    controls = sum(map(text.count, _CONTROLS))
    if controls > len(text) * _MOST_CONTROLS:
        raise Unreadable(f"{controls} of its {len(text)} characters are control characters", BINARY)


def _encoding_remedy(content: bytes) -> str:
    """What to do about bytes of another encoding.  A guess is good enough to help, not to store."""
    if b"\x00" in content[:_SAMPLE_BYTES]:
        return BINARY
    likely, *others = _guesses(content) or [""]
    seems, name = (f", which seems to be {likely}", likely) if likely else ("", "NAME")
    if others:
        seems += f" (or {' or '.join(others)}: read what comes of it)"
    return (
        f"Send UTF-8, or name its charset{seems}: trivium docs add --charset {name}, docs.add(..., charset={name!r}), "
        f"in the API the media type 'text/plain; charset={name}'."
    )


def _guesses(content: bytes) -> list[str]:
    """The charsets under which the bytes read best, the likeliest first: the most used of those that nothing tells apart."""
    matches = list(from_bytes(content[:_SAMPLE_BYTES]))
    as_good = [
        match
        for match in matches
        if match.chaos <= matches[0].chaos and match.coherence >= matches[0].coherence - _AS_COHERENT
    ]
    # One text may come of several charsets: the library names the first by the alphabet.
    texts = [[codecs.lookup(name).name for name in match.could_be_from_charset] for match in as_good]
    names = [_USUAL if _USUAL in text else next((name for name in text if name in _CHARSETS), "") for text in texts]
    return sorted(filter(None, names), key=lambda name: name != _USUAL)[:_MOST_GUESSES]
