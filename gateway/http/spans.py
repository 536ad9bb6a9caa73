"""Characters of a document version, as every answer over HTTP names them."""

from typing import Any

from trivium.common.v1 import receipt_pb2


def span(message: receipt_pb2.SourceSpan) -> dict[str, Any]:
    """Characters of a document version."""
    return {
        "marker": message.marker,
        "collection": message.collection,
        "document": message.document,
        "version": message.version,
        "start": message.start,
        "end": message.end,
        "chunk": message.chunk,
    }
