"""Metadata with types: plain Python values to the wire and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.retriever.v1 import retriever_pb2 as pb

MetadataValue = str | float | bool | date | datetime | Sequence[str]


def message(value: MetadataValue) -> pb.MetadataValue:
    """To the wire.  A date is its first moment in UTC, and so is a time without a zone.  Raises TypeError."""
    if isinstance(value, bool):
        return pb.MetadataValue(flag=value)
    if isinstance(value, str):
        return pb.MetadataValue(text=value)
    if isinstance(value, int | float):
        return pb.MetadataValue(number=value)
    if isinstance(value, date):
        return pb.MetadataValue(time=_stamp(value))
    if isinstance(value, Sequence) and all(isinstance(it, str) for it in value):
        return pb.MetadataValue(texts=pb.TextList(texts=value))
    raise TypeError(
        f"metadata are texts, numbers, booleans, dates, times or lists of texts, not {type(value).__name__}"
    )


def _stamp(value: date) -> Timestamp:
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    stamp = Timestamp()
    stamp.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return stamp


def value(held: pb.MetadataValue) -> Any:
    """From the wire: a text, a number, a boolean, an aware datetime in UTC or a tuple of texts."""
    kind = held.WhichOneof("value")
    if kind == "time":
        return held.time.ToDatetime(UTC)
    if kind == "texts":
        return tuple(held.texts.texts)
    return getattr(held, kind) if kind else ""


def as_held(given: MetadataValue) -> Any:
    """A value as the server gives it back.  Raises TypeError."""
    return given if isinstance(given, str) else value(message(given))


def header_fields(metadata: Mapping[str, MetadataValue] | None) -> dict[str, Any]:
    """The two fields of a document's header that carry metadata: texts, and what has another type."""
    given = dict(metadata or {})
    return {
        "metadata": {name: it for name, it in given.items() if isinstance(it, str)},
        "typed_metadata": {name: message(it) for name, it in given.items() if not isinstance(it, str)},
    }
