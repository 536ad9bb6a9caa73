"""Datasets and what is wrong with them.  As `nouns`."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DatasetProblem:
    """Something wrong with one line (from 1; of Parquet its row) of a dataset; `fatal` is false for a warning."""

    line: int
    field: str
    message: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class Dataset:
    """One version of a dataset, which never changes; tokens are counted under the default base's chat template.

    `dataset` alone names the newest version, `dataset@version` and the digest this one.  `warnings` are said once, by the
    upload that stored it.
    """

    dataset: str
    version: int
    digest: str
    filename: str
    format: str
    rows: int
    size_bytes: int
    tokens: int
    supervised_tokens: int
    max_row_tokens: int
    create_time: datetime | None
    warnings: tuple[DatasetProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOutRows:
    """Rows that are not trained on for one reason, which says what to do."""

    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class LengthBucket:
    """Rows of at most so many tokens, a power of two, and more than half as many."""

    max_tokens: int
    rows: int


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Rows with one answer."""

    label: str
    rows: int


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """What preference pairs have in common; mean tokens of answers, and the share whose chosen answer is longer."""

    pairs: int
    same: int
    chosen_tokens: float
    rejected_tokens: float
    chosen_longer_ratio: float


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """A dataset as a job would train on it.

    `tokens` and `supervised_tokens` are of one epoch over all `examples`; `steps` and `trained_tokens` of the whole
    run, after sample and split.
    """

    base: str
    objective: str
    max_row_tokens: int
    rows: int
    examples: int
    cut_rows: int
    left_out: tuple[LeftOutRows, ...]
    tokens: int
    supervised_tokens: int
    lengths: tuple[LengthBucket, ...]
    median_tokens: int
    p90_tokens: int
    p99_tokens: int
    longest_tokens: int
    duplicate_rows: int
    near_duplicate_rows: int
    compared_rows: int
    shared_rows: int
    near_shared_rows: int
    empty_completions: int
    labels: tuple[LabelRows, ...]
    pairs: PairStatistics | None
    desirable_rows: int
    undesirable_rows: int
    training_examples: int
    validation_examples: int
    steps: int
    trained_tokens: int
    warnings: tuple[str, ...]
    near_held_out_rows: int = 0


@dataclass(frozen=True, slots=True)
class DatasetCheck:
    """What a check of a dataset found: the first thousand of `problem_count` problems and warnings, and the report."""

    dataset: Dataset
    report: DatasetReport
    problems: tuple[DatasetProblem, ...]
    problem_count: int


@dataclass(frozen=True, slots=True)
class PreviewToken:
    """One token's text, and whether the loss is taken on it."""

    text: str
    supervised: bool


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One example as it is trained on.

    `tokens` of a pair are those with the chosen answer, `rejected` those with the other; `desirable` is a judgement's;
    `note` says why a row is not trained on.
    """

    line: int
    tokens: tuple[PreviewToken, ...]
    rejected: tuple[PreviewToken, ...]
    desirable: bool | None
    note: str
