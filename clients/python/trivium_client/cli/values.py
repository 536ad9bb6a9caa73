"""Metadata as they are typed: numbers, dates, times, true and false are taken as such, unless in quotes."""

import re
from datetime import date, datetime

from trivium_client.metadata import MetadataValue

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def value_of(text: str) -> MetadataValue:
    """What was typed."""
    if text != unquoted(text):
        return unquoted(text)
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text):
        return float(text)
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def unquoted(text: str) -> str:
    """The text without the quotes that stand around it, if any do."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text
