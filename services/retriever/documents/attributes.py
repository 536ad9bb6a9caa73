"""Metadata with types: what a value may be, and how it is kept.

Invariant: a value comes back as it was given: its type, its text to the character, its
number to the bit, its moment to the microsecond.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from services.chassis.errors import Failure, Reason

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Kind(StrEnum):
    """The type of a value; its name is what messages call it."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    TIME = "time"
    TEXTS = "list of texts"


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A moment, in microseconds since 1970 in UTC."""

    micros: int

    def __str__(self) -> str:
        return (_EPOCH + timedelta(microseconds=self.micros)).isoformat()


Value = str | float | bool | Moment | tuple[str, ...]
Attributes = Mapping[str, Value]


def kind_of(value: Value) -> Kind:
    """The type of a value."""
    # In Python, True is a number as well.
    if isinstance(value, bool):
        return Kind.FLAG
    if isinstance(value, str):
        return Kind.TEXT
    if isinstance(value, Moment):
        return Kind.TIME
    return Kind.TEXTS if isinstance(value, tuple) else Kind.NUMBER


def folded(text: str) -> str:
    """The text without its case, for every script: databases know that of ASCII alone."""
    return text.casefold()


def merged(metadata: Mapping[str, str], attributes: Attributes) -> dict[str, Value]:
    """What filters see: texts of the plain metadata beside the typed.

    Raises FIELD_INVALID for a name that stands in both, and for what no database keeps.
    """
    for name in attributes:
        if name in metadata:
            problem = f"{name} stands in metadata as well. Leave it out of one of them"
            raise Failure(Reason.FIELD_INVALID, field="typed_metadata", problem=problem)
    found: dict[str, Value] = {**metadata, **attributes}
    for name, value in found.items():
        require_storable(name, value, "typed_metadata" if name in attributes else "metadata")
    return found


def require_storable(name: str, value: Value, field: str) -> None:
    """Raises FIELD_INVALID for a NUL character, half a character, or a number that is none."""
    texts = value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
    if any(not _clean(text) for text in (name, *texts)):
        raise Failure(Reason.FIELD_INVALID, field=field, problem=f"{name!a} holds a NUL character. Leave it out")
    if isinstance(value, float) and not math.isfinite(value):
        raise Failure(Reason.FIELD_INVALID, field=field, problem=f"{name} is {value}. Give a finite number")


def _clean(text: str) -> bool:
    return "\x00" not in text


def encoded(attributes: Attributes) -> str:
    """Values as JSON, by name in order."""
    return json.dumps({name: _plain(attributes[name]) for name in sorted(attributes)})


def decoded(text: str) -> dict[str, Value]:
    """Values from :func:`encoded`."""
    return {name: _value(*plain) for name, plain in json.loads(text).items()}


def _plain(value: Value) -> list[object]:
    return [kind_of(value).name, value.micros if isinstance(value, Moment) else value]


def _value(kind: str, plain: object) -> Value:
    if kind == Kind.TIME.name:
        assert isinstance(plain, int)
        return Moment(plain)
    if kind == Kind.TEXTS.name:
        assert isinstance(plain, list)
        return tuple(plain)
    if kind == Kind.NUMBER.name:
        assert isinstance(plain, int | float)
        return float(plain)
    assert isinstance(plain, str | bool)
    return plain
