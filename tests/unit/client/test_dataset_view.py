"""What a terminal shows of a dataset: a check's numbers, and which tokens of a row are learned."""

from dataclasses import replace

import pytest
from trivium_client.cli.dataset_view import report_lines, row_lines
from trivium_client.nouns import DatasetReport, LabelRows, LengthBucket, PairStatistics, PreviewRow, PreviewToken

REPORT = DatasetReport(
    base="tiny",
    objective="supervised",
    max_row_tokens=512,
    rows=12,
    examples=11,
    cut_rows=1,
    left_out=(),
    tokens=900,
    supervised_tokens=300,
    lengths=(LengthBucket(32, 4), LengthBucket(64, 8)),
    median_tokens=40,
    p90_tokens=60,
    p99_tokens=64,
    longest_tokens=64,
    duplicate_rows=0,
    near_duplicate_rows=0,
    compared_rows=12,
    shared_rows=0,
    near_shared_rows=0,
    empty_completions=0,
    labels=(LabelRows("yes\x1b[2J", 8), LabelRows("no", 4)),
    pairs=None,
    desirable_rows=0,
    undesirable_rows=0,
    training_examples=10,
    validation_examples=1,
    steps=6,
    trained_tokens=900,
    warnings=(),
)
ROW = PreviewRow(
    line=3,
    tokens=(PreviewToken("Who?", False), PreviewToken("Me", True), PreviewToken(".\x1b[2J", True)),
    rejected=(),
    desirable=None,
    note="",
)


def test_a_report_says_what_a_run_comes_to_and_how_long_rows_are() -> None:
    text = "\n".join(report_lines(REPORT))
    assert "12 rows for supervised on tiny: 11 examples of at most 512 tokens" in text
    assert "6 steps over 10 examples, 1 held out; 900 tokens learned" in text
    assert "<= 64  " + "█" * 40 + " 8" in text
    assert "\x1b" not in text


def test_a_report_of_pairs_says_which_answers_are_longer() -> None:
    pairs = PairStatistics(pairs=4, same=1, chosen_tokens=12.4, rejected_tokens=8.0, chosen_longer_ratio=0.75)
    assert any("longer in 75%" in line for line in report_lines(replace(REPORT, pairs=pairs)))


def test_what_is_learned_stands_out_with_colours_and_without() -> None:
    assert list(row_lines(ROW, colours=False)) == ["line 3", "Who?[[Me.[2J]]", ""]
    (coloured,) = [line for line in row_lines(ROW, colours=True) if "Me." in line]
    assert coloured.index("\x1b[2mWho?") < coloured.index("\x1b[32m\x1b[1mMe.[2J")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (replace(ROW, rejected=(PreviewToken("You.", True),)), ["chosen:", "rejected:", "[[You.]]"]),
        (replace(ROW, desirable=False), ["line 3, not wanted"]),
        (replace(ROW, desirable=True), ["line 3, wanted"]),
        (replace(ROW, note="too long"), ["not trained on: too long"]),
    ],
)
def test_sides_judgements_and_reasons_are_said(row: PreviewRow, says: list[str]) -> None:
    assert set(says) <= set(row_lines(row, colours=False))
