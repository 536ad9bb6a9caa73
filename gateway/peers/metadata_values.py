"""Typed metadata of the retriever and the domain's values, both ways."""

from collections.abc import Mapping
from datetime import UTC, datetime

from trivium.retriever.v1 import retriever_pb2 as pb

from gateway.vector_stores.nouns import Attributes, Value


def of_values(messages: Mapping[str, pb.MetadataValue]) -> dict[str, Value]:
    """Attributes as they came."""
    return {name: _of_value(message) for name, message in messages.items()}


def to_values(values: Attributes) -> dict[str, pb.MetadataValue]:
    """Attributes as the wire carries them."""
    return {name: _to_value(value) for name, value in values.items()}


def _of_value(message: pb.MetadataValue) -> Value:
    kind = message.WhichOneof("value")
    if kind == "time":
        return message.time.ToDatetime(tzinfo=UTC)
    if kind == "texts":
        return tuple(message.texts.texts)
    if kind == "number":
        return message.number
    return message.flag if kind == "flag" else message.text


def _to_value(value: Value) -> pb.MetadataValue:
    # In Python, True is a number as well.
    if isinstance(value, bool):
        return pb.MetadataValue(flag=value)
    if isinstance(value, str):
        return pb.MetadataValue(text=value)
    if isinstance(value, tuple):
        return pb.MetadataValue(texts=pb.TextList(texts=value))
    if isinstance(value, datetime):
        message = pb.MetadataValue()
        message.time.FromDatetime(value)
        return message
    return pb.MetadataValue(number=value)
