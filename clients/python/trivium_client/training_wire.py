"""Datasets: protobuf to nouns.  Part of `wire`."""

from __future__ import annotations

from collections.abc import Iterable

from trivium.trainer.v1 import dataset_pb2, training_pb2

from trivium_client import nouns, wire


def dataset(message: dataset_pb2.Dataset, warnings: Iterable[dataset_pb2.DatasetProblem] = ()) -> nouns.Dataset:
    """From the wire."""
    return nouns.Dataset(
        dataset=message.dataset,
        version=message.version,
        digest=message.digest,
        filename=message.filename,
        format=wire.word(dataset_pb2.DatasetFormat, message.format),
        rows=message.rows,
        size_bytes=message.size_bytes,
        tokens=message.tokens,
        supervised_tokens=message.supervised_tokens,
        max_row_tokens=message.max_row_tokens,
        create_time=wire.time(message.create_time),
        warnings=tuple(map(problem, warnings)),
    )


def problem(message: dataset_pb2.DatasetProblem) -> nouns.DatasetProblem:
    """From the wire."""
    return nouns.DatasetProblem(line=message.line, field=message.field, message=message.message, fatal=message.fatal)


# Of a report the fields that are the same on both sides.
_PLAIN = (
    "base",
    "max_row_tokens",
    "rows",
    "examples",
    "cut_rows",
    "tokens",
    "supervised_tokens",
    "median_tokens",
    "p90_tokens",
    "p99_tokens",
    "longest_tokens",
    "duplicate_rows",
    "near_duplicate_rows",
    "compared_rows",
    "shared_rows",
    "near_shared_rows",
    "near_held_out_rows",
    "empty_completions",
    "desirable_rows",
    "undesirable_rows",
    "training_examples",
    "validation_examples",
    "steps",
    "trained_tokens",
)


def check(message: dataset_pb2.ValidateDatasetResponse) -> nouns.DatasetCheck:
    """From the wire."""
    return nouns.DatasetCheck(
        dataset=dataset(message.dataset),
        report=report(message.report),
        problems=tuple(problem(item) for item in message.problems),
        problem_count=message.problem_count,
    )


def report(message: dataset_pb2.DatasetReport) -> nouns.DatasetReport:
    """From the wire."""
    return nouns.DatasetReport(
        objective=wire.word(training_pb2.Objective, message.objective),
        left_out=tuple(nouns.LeftOutRows(item.reason, item.rows) for item in message.left_out),
        lengths=tuple(nouns.LengthBucket(item.max_tokens, item.rows) for item in message.lengths),
        labels=tuple(nouns.LabelRows(item.label, item.rows) for item in message.labels),
        pairs=_pairs(message.pairs) if message.HasField("pairs") else None,
        warnings=tuple(message.warnings),
        **{name: getattr(message, name) for name in _PLAIN},
    )


def _pairs(message: dataset_pb2.PairStatistics) -> nouns.PairStatistics:
    return nouns.PairStatistics(
        pairs=message.pairs,
        same=message.same,
        chosen_tokens=message.chosen_tokens,
        rejected_tokens=message.rejected_tokens,
        chosen_longer_ratio=message.chosen_longer_ratio,
    )


def preview_row(message: dataset_pb2.PreviewRow) -> nouns.PreviewRow:
    """From the wire."""
    return nouns.PreviewRow(
        line=message.line,
        tokens=_tokens(message.tokens),
        rejected=_tokens(message.rejected),
        desirable=message.desirable if message.HasField("desirable") else None,
        note=message.note,
    )


def _tokens(messages: Iterable[dataset_pb2.PreviewToken]) -> tuple[nouns.PreviewToken, ...]:
    return tuple(nouns.PreviewToken(message.text, message.supervised) for message in messages)
