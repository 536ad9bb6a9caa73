"""What is asked and said about datasets: protobuf to domain and back.  Part of `wire`."""

from collections.abc import Sequence

from trivium.trainer.v1 import dataset_pb2, training_pb2

from services.chassis.errors import Failure, Reason
from services.trainer import wire
from services.trainer.data.dataset_rows import Dataset
from services.trainer.data.preview import PreviewRow, Shown
from services.trainer.data.report import Asked, Report
from services.trainer.data.rows import Problem
from services.trainer.recipes.filling import misnamed
from services.trainer.settings import Objective, Supervision
from services.trainer.wire_settings import as_written

# What an order says about its data, under the same names on both sides.
_NUMBERS = ("max_row_tokens", "epochs", "batch_rows", "max_steps", "sample_rows", "validation_ratio", "seed")
# Numbers of a report, under the same names on both sides.
_PLAIN = (
    "max_row_tokens",
    "rows",
    "examples",
    "cut_rows",
    "tokens",
    "supervised_tokens",
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


def asked(settings: training_pb2.TrainingSettings, recipe: str, max_row_tokens: int = 0) -> Asked:
    """What the settings of a job to come say about its data, every default filled in.

    Raises FIELD_INVALID for a recipe, or a choice of it, that there is not.
    """
    if problem := misnamed(recipe):
        raise Failure(Reason.FIELD_INVALID, field="recipe", problem=problem)
    # The numbers of the job to come, to the last bit: a share of single precision can round to another row.
    chosen = as_written(settings, _NUMBERS)
    if max_row_tokens:
        chosen["max_row_tokens"] = max_row_tokens
    supervision = training_pb2.Supervision.Name(settings.supervision).removeprefix("SUPERVISION_")
    objective = training_pb2.Objective.Name(settings.objective).removeprefix("OBJECTIVE_")
    return Asked(
        objective=Objective[objective] if settings.objective else None,
        supervision=Supervision[supervision] if settings.supervision else Supervision.ASSISTANT,
        recipe=recipe,
        **chosen,
    )


def checked(
    dataset: Dataset, base: str, report: Report, problems: Sequence[Problem], count: int
) -> dataset_pb2.ValidateDatasetResponse:
    """A check on the wire."""
    return dataset_pb2.ValidateDatasetResponse(
        dataset=wire.dataset(dataset),
        problems=[wire.problem(entry) for entry in problems],
        report=_report(base, report),
        problem_count=count,
    )


def _report(base: str, value: Report) -> dataset_pb2.DatasetReport:
    lengths = value.lengths
    answer = dataset_pb2.DatasetReport(
        base=base,
        objective=training_pb2.Objective.Value(f"OBJECTIVE_{value.objective.name}"),
        left_out=[dataset_pb2.LeftOutRows(reason=reason, rows=rows) for reason, rows in value.left_out],
        lengths=[dataset_pb2.LengthBucket(max_tokens=bound, rows=rows) for bound, rows in lengths.buckets],
        median_tokens=lengths.median_tokens,
        p90_tokens=lengths.p90_tokens,
        p99_tokens=lengths.p99_tokens,
        longest_tokens=lengths.longest_tokens,
        labels=[dataset_pb2.LabelRows(label=label, rows=rows) for label, rows in value.labels],
        warnings=value.warnings,
        **{name: getattr(value, name) for name in _PLAIN},
    )
    pairs = value.pairs
    if pairs.pairs:
        statistics = dataset_pb2.PairStatistics(
            pairs=pairs.pairs,
            same=pairs.same,
            chosen_tokens=pairs.chosen_tokens,
            rejected_tokens=pairs.rejected_tokens,
            chosen_longer_ratio=pairs.chosen_longer_ratio,
        )
        answer.pairs.CopyFrom(statistics)
    return answer


def problems(found: Sequence[Problem], following: str) -> dataset_pb2.ListDatasetProblemsResponse:
    """A page of problems on the wire."""
    return dataset_pb2.ListDatasetProblemsResponse(
        problems=[wire.problem(entry) for entry in found], next_page_token=following
    )


def previewed(rows: Sequence[PreviewRow], next_offset: int) -> dataset_pb2.PreviewDatasetResponse:
    """A preview on the wire."""
    return dataset_pb2.PreviewDatasetResponse(rows=[_preview_row(row) for row in rows], next_offset=next_offset)


def _preview_row(row: PreviewRow) -> dataset_pb2.PreviewRow:
    return dataset_pb2.PreviewRow(
        tokens=_tokens(row.tokens),
        line=row.line,
        rejected=_tokens(row.rejected),
        desirable=row.desirable,
        note=row.note,
    )


def _tokens(shown: Shown) -> list[dataset_pb2.PreviewToken]:
    return [dataset_pb2.PreviewToken(text=text, supervised=supervised) for text, supervised in shown]
