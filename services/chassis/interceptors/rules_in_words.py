"""A rule of the wire that a request breaks, in words: what the field must be, and what it is.

Invariant: of what the caller sent only numbers and names are repeated, never texts, which may be anybody's and would
stand in logs.
"""

import re
from typing import Any

# What each pattern of the contract means; a test holds the two together.
PATTERNS = {
    "^[0-9a-f]{64}$": "64 hexadecimal digits in small letters",
    "^[A-Za-z0-9_-]{1,64}$": "1 to 64 letters, digits, underscores and dashes",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$": (
        "1 to 128 letters, digits, dots, underscores and dashes, the first a letter or a digit"
    ),
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": (
        "1 to 63 small letters, digits and dashes, the first and the last no dash"
    ),
    "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$": (
        "1 to 63 small letters, digits, dots, underscores and dashes, the first and the last a letter or a digit"
    ),
    "^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$": (
        "1 to 63 small letters, digits, dots and dashes, the first and the last a letter or a digit"
    ),
    "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$": (
        "1 to 32 small letters, digits and dashes, the first a letter and the last no dash"
    ),
    r"^([A-Za-z0-9.-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})?$": "HOST:PORT, or [ADDRESS]:PORT where it is IPv6",
}
# More of a name would only be scrolled past.
_MOST_LETTERS = 80
_NUMBER = r"(\S+)"
_BOUNDS = (
    (
        re.compile(f"must be greater than or equal to {_NUMBER} and less than or equal to {_NUMBER}$"),
        r"must be \1 to \2",
    ),
    (re.compile("greater than or equal to"), "at least"),
    (re.compile("less than or equal to"), "at most"),
    (re.compile("greater than"), "above"),
    (re.compile("less than"), "below"),
)


def in_words(violation: Any) -> str:
    """What a violation of protovalidate's says of its field, without the field's name."""
    said: str = violation.proto.message or violation.proto.rule_id or ""
    if violation.proto.rule_id in ("string.pattern", "string.min_len") and violation.field_value == "":
        return "must be given; it is empty"
    if violation.proto.rule_id == "string.pattern" and (words := PATTERNS.get(violation.rule_value)):
        return f"must be {words}; this is {_shortened(violation.field_value)}"
    # Rules of the contract's own have sentences of their own.
    if not re.match(r"(float|double|u?int(32|64))\.", violation.proto.rule_id):
        return said
    for pattern, words in _BOUNDS:
        said = pattern.sub(words, said)
    given = violation.field_value
    return f"{said}; this is {f'{given:g}' if isinstance(given, float) else given}"


def _shortened(text: str) -> str:
    cut = text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"
    return repr(cut)
