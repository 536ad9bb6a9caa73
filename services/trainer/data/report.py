"""What is said of a dataset before anything is spent on it, and what to do about it.

Invariant: a report is of one dataset as one order would train on it: its numbers are those of the run to come, not
of the file.  Every warning is a sentence with a remedy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from services.trainer.settings import Objective, Supervision

# Short answers in one form are learned in 25 steps at the default rate (the README's example): below that a run has
# seen too little of anything.  What takes more than that, as long answers do, nothing in the rows tells.
FEW_STEPS = 20
# A label that has so many times the rows of another drowns it.
_IMBALANCE = 10
# From so many pairs on, and with such a share of longer chosen answers, length is what is learned.
_SOME_PAIRS = 20
_LONGER_RATIO = 0.75
# KTO balances the two kinds by weights up to about this ratio.
_KTO_RATIO = 4
_FEW_HELD_OUT = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """The order that a dataset is checked for.  `objective` None: what its format is for.  0 rows or steps: all.

    `recipe` is the mark of recipe and choice by which records become rows.
    """

    objective: Objective | None = None
    supervision: Supervision = Supervision.ASSISTANT
    max_row_tokens: int = 1024
    epochs: int = 3
    batch_rows: int = 8
    max_steps: int = 0
    sample_rows: int = 0
    validation_ratio: float = 0.0
    seed: int = 0
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of rows before cutting: for each power of two the rows up to it (and over the one before)."""

    buckets: tuple[tuple[int, int], ...] = ()
    median_tokens: int = 0
    p90_tokens: int = 0
    p99_tokens: int = 0
    longest_tokens: int = 0

    @classmethod
    def of(cls, lengths: list[int]) -> "Lengths":
        """Count rows by their lengths in tokens."""
        if not lengths:
            return cls()
        ordered = sorted(lengths)
        buckets: dict[int, int] = {}
        for length in ordered:
            bound = 1 << max(0, length - 1).bit_length()
            buckets[bound] = buckets.get(bound, 0) + 1
        median, p90, p99 = (ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.9, 0.99))
        return cls(tuple(buckets.items()), median, p90, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Pairs:
    """Answers of preference pairs: how many, how many the same, mean tokens, share of longer chosen ones."""

    pairs: int = 0
    same: int = 0
    chosen_tokens: float = 0.0
    rejected_tokens: float = 0.0
    chosen_longer_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A dataset as it would be trained on.

    `tokens` and `supervised_tokens` are of one epoch; `examples` are what rows became; `left_out` counts rows by
    reason; `labels` counts completions where they are few and short, most frequent first.
    """

    objective: Objective
    max_row_tokens: int
    rows: int = 0
    examples: int = 0
    cut_rows: int = 0
    left_out: tuple[tuple[str, int], ...] = ()
    tokens: int = 0
    supervised_tokens: int = 0
    lengths: Lengths = Lengths()
    duplicate_rows: int = 0
    near_duplicate_rows: int = 0
    compared_rows: int = 0
    shared_rows: int = 0
    near_shared_rows: int = 0
    near_held_out_rows: int = 0
    empty_completions: int = 0
    labels: tuple[tuple[str, int], ...] = ()
    pairs: Pairs = Pairs()
    desirable_rows: int = 0
    undesirable_rows: int = 0
    training_examples: int = 0
    validation_examples: int = 0
    steps: int = 0
    trained_tokens: int = 0
    warnings: tuple[str, ...] = ()


def steps_of(examples: int, asked: Asked) -> int:
    """Optimizer steps of a run over so many examples."""
    steps = ceil(examples / asked.batch_rows) * asked.epochs
    return min(steps, asked.max_steps) if asked.max_steps else steps


def few_steps(steps: int) -> str:
    """The warning of a run of so few optimizer steps, in one wording wherever it is given."""
    return f"The run has only {steps} step{'s' if steps > 1 else ''} to learn in: add rows, raise epochs or lower batch_rows."


def advice(report: Report, asked: Asked) -> Iterator[str]:
    """Yield what should be known before the run, the most harmful first."""
    yield from _of_rows(report)
    yield from _of_repetition(report)
    yield from _of_answers(report)
    if 0 < report.steps < FEW_STEPS and not asked.max_steps:
        yield few_steps(report.steps)
    if 0 < report.validation_examples < _FEW_HELD_OUT:
        yield (
            f"{report.validation_examples} examples are held out, too few for a loss that means something: "
            "raise validation_ratio or give a validation dataset."
        )


def _of_rows(report: Report) -> Iterator[str]:
    for reason, rows in report.left_out:
        yield f"{rows} of {report.rows} rows are left out: {reason}."
    if report.cut_rows and report.objective is Objective.CONTINUED:
        yield (
            f"{report.cut_rows} of {report.rows} texts are longer than {report.max_row_tokens} tokens and are cut into "
            "consecutive pieces; raise max_row_tokens for a longer view."
        )
    elif report.cut_rows:
        yield (
            f"{report.cut_rows} of {report.rows} rows are longer than {report.max_row_tokens} tokens and lose their end: "
            f"raise max_row_tokens (the longest has {report.lengths.longest_tokens}) or shorten them."
        )
    if report.empty_completions:
        yield (
            f"In {report.empty_completions} rows an answer is empty, and the model learns to say nothing: "
            "write these answers or drop them."
        )


def _of_repetition(report: Report) -> Iterator[str]:
    if report.shared_rows or report.near_shared_rows:
        yield (
            f"{report.shared_rows} rows are in the validation dataset too, and {report.near_shared_rows} nearly are: "
            "remove them from one of the two, or the evaluation measures memory."
        )
    if report.near_held_out_rows:
        yield (
            f"{report.near_held_out_rows} rows that are held out nearly repeat one that is trained on: keep one of each (the "
            "lines that say nearly the same are named), or give a validation dataset of other rows, or the evaluation "
            "measures memory."
        )
    if report.duplicate_rows:
        repeat = "1 row repeats" if report.duplicate_rows == 1 else f"{report.duplicate_rows} rows repeat"
        yield f"{repeat} an earlier row: keep one of each, or they weigh more than the others."
    if report.near_duplicate_rows:
        near = report.near_duplicate_rows
        repeat = "1 row nearly repeats" if near == 1 else f"{near} rows nearly repeat"
        yield f"{repeat} an earlier row: keep one of each unless the difference is what is to be learned."


def _of_answers(report: Report) -> Iterator[str]:
    if len(report.labels) > 1:
        (common, most), (rare, least) = report.labels[0], report.labels[-1]
        if most >= _IMBALANCE * least:
            yield (
                f"The answers are unbalanced: {common!r} has {most} rows and {rare!r} has {least}. Add rows of the rare "
                "ones or drop some of the common ones, or the model will prefer what it saw most."
            )
    elif report.labels:
        yield f"Every answer is {report.labels[0][0]!r}: add rows with other answers, or the model learns only this one."
    pairs = report.pairs
    if pairs.pairs >= _SOME_PAIRS and pairs.chosen_longer_ratio >= _LONGER_RATIO:
        yield (
            f"In {pairs.chosen_longer_ratio:.0%} of the pairs the chosen answer is the longer one, and length is what will "
            "be learned: add pairs whose better answer is the shorter one."
        )
    if report.objective is Objective.KTO and (report.desirable_rows or report.undesirable_rows):
        yield from _of_judgements(report.desirable_rows, report.undesirable_rows)


def _of_judgements(desirable: int, undesirable: int) -> Iterator[str]:
    if not desirable or not undesirable:
        yield "All answers have the same label: KTO needs wanted and unwanted ones, so add rows with the other label."
    elif max(desirable, undesirable) > _KTO_RATIO * min(desirable, undesirable):
        rare = "desirable" if desirable < undesirable else "undesirable"
        yield (
            f"{desirable} answers are wanted and {undesirable} are not: add {rare} ones, or raise {rare}_weight to about "
            f"{max(desirable, undesirable) / min(desirable, undesirable):.1f}."
        )
