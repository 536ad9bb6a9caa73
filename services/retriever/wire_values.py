"""Typed metadata between protobuf and the domain."""

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.retriever.v1 import retriever_pb2 as pb

from services.retriever.documents.attributes import Moment, Value

_MICROS = 1_000_000


def value(message: pb.MetadataValue) -> Value:
    """A value as it came; a moment is cut to the microsecond."""
    kind = message.WhichOneof("value")
    if kind == "time":
        return Moment(message.time.seconds * _MICROS + message.time.nanos // 1000)
    if kind == "texts":
        return tuple(message.texts.texts)
    if kind == "number":
        return message.number
    return message.flag if kind == "flag" else message.text


def shown(given: Value) -> pb.MetadataValue:
    """A value as the API shows it."""
    if isinstance(given, bool):
        return pb.MetadataValue(flag=given)
    if isinstance(given, str):
        return pb.MetadataValue(text=given)
    if isinstance(given, tuple):
        return pb.MetadataValue(texts=pb.TextList(texts=given))
    if isinstance(given, Moment):
        seconds, micros = divmod(given.micros, _MICROS)
        return pb.MetadataValue(time=Timestamp(seconds=seconds, nanos=micros * 1000))
    return pb.MetadataValue(number=given)
