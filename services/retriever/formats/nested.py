"""JSON and JSON Lines to headings, ``path: value`` lines, and rows for arrays of records.

Invariants: numbers stay as they were written; a record of an array is one unit of the text; keys on the way to a
value are its headings or stand before it.
"""

import json
from collections.abc import Iterator
from typing import Any

from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.writer import Converted, Writer

_MOST_DEPTH = 100
_MOST_HEADING_LEVEL = 4
_MOST_LISTED_CHARACTERS = 300


class Pairs(list[tuple[str, Any]]):
    """An object: its pairs in order, with keys that occur twice."""


def converted(text: str, writer: Writer) -> Converted:
    """A JSON document as text.  Raises Unreadable."""
    _write(writer, _parsed(text, ""), (), 1, 0)
    return writer.finish()


def converted_lines(text: str, writer: Writer) -> Converted:
    """One value a line as text.  Raises Unreadable."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            writer.record(list(_flat(_parsed(line, f"line {number}, "), (), 0)))
    return writer.finish()


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=Pairs,
            parse_int=str,
            parse_float=str,
            parse_constant=str,
        )
    except json.JSONDecodeError as error:
        place = f"{where}column {error.colno}" if where else f"line {error.lineno}, column {error.colno}"
        raise Unreadable(f"it is not JSON at {place}: {error.msg}", "Mend it, and send it again.") from None
    except RecursionError:
        raise _too_deep() from None


def _write(writer: Writer, value: Any, path: tuple[str, ...], level: int, depth: int) -> None:
    """A value under headings ``path``; ``level`` is that of the next heading."""
    if depth > _MOST_DEPTH:
        raise _too_deep()
    if isinstance(value, Pairs):
        # Values of its own first: behind the heading of an inner object they would seem to be that one's.
        for key, inner in value:
            if _is_plain(inner):
                writer.record([(_joined((*path, key)), _shown(inner))])
        for key, inner in value:
            if _is_plain(inner):
                continue
            if level <= _MOST_HEADING_LEVEL:
                writer.heading(level, key)
                _write(writer, inner, (), level + 1, depth + 1)
            else:
                _write(writer, inner, (*path, key), level, depth + 1)
    elif isinstance(value, list):
        for item in value:
            writer.record([(_joined((*path, *keys)), shown) for keys, shown in _flat_pairs(item, (), depth + 1)])
    else:
        writer.record([(_joined(path), _shown(value))])


def _flat(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[str, str]]:
    for keys, shown in _flat_pairs(value, path, depth):
        yield _joined(keys), shown


def _flat_pairs(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """Everything inside a record, on one level: the path of each value beside it."""
    if depth > _MOST_DEPTH:
        raise _too_deep()
    if _is_plain(value):
        yield path, _shown(value)
    elif isinstance(value, Pairs):
        for key, inner in value:
            yield from _flat_pairs(inner, (*path, key), depth + 1)
    else:
        for number, inner in enumerate(value, start=1):
            yield from _flat_pairs(inner, (*path, str(number)), depth + 1)


def _is_plain(value: Any) -> bool:
    """Whether a value fits one line: a scalar, or a short list of scalars."""
    if isinstance(value, Pairs):
        return not value
    if isinstance(value, list):
        scalars = all(not isinstance(item, list) for item in value)
        return scalars and sum(len(_shown(item)) for item in value) <= _MOST_LISTED_CHARACTERS
    return True


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _joined(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _too_deep() -> Unreadable:
    return Unreadable(f"it is nested more than {_MOST_DEPTH} deep", "Send it flatter.")
