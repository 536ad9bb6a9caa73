"""Moments on the wire."""

from google.protobuf.timestamp_pb2 import Timestamp


def time(seconds: float) -> Timestamp:
    """A moment in Unix seconds."""
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp


def maybe_time(seconds: float | None) -> Timestamp | None:
    """A moment, unset for None."""
    return None if seconds is None else time(seconds)
