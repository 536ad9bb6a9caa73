"""Datasets: protobuf to nouns.  Part of `wire`."""

from __future__ import annotations

from trivium.trainer.v1 import dataset_pb2

from trivium_client import nouns, wire


def dataset(message: dataset_pb2.Dataset) -> nouns.Dataset:
    """From the wire."""
    return nouns.Dataset(
        dataset=message.dataset,
        digest=message.digest,
        filename=message.filename,
        format=wire.word(dataset_pb2.DatasetFormat, message.format),
        rows=message.rows,
        size_bytes=message.size_bytes,
        tokens=message.tokens,
        supervised_tokens=message.supervised_tokens,
        max_row_tokens=message.max_row_tokens,
        create_time=wire.time(message.create_time),
    )


def problem(message: dataset_pb2.DatasetProblem) -> nouns.DatasetProblem:
    """From the wire."""
    return nouns.DatasetProblem(line=message.line, field=message.field, message=message.message, fatal=message.fatal)
