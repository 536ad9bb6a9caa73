"""Every way is asked the same rows, and pairs are counted against what the base prefers already."""

from pathlib import Path

import pytest

from tests.load.finetune_quality.__main__ import figures, told
from tests.load.finetune_quality.answering import Batch
from tests.load.finetune_quality.comparison import Compared, Way, measured, order_of, over_floor
from tests.load.finetune_quality.rows import QualitySet, Row
from tests.load.finetune_quality.scores import Interval, Measured, exact_match
from tests.load.finetune_quality.state import State

ROWS = tuple(Row(f"text {number}", "Yes", "No") for number in range(4))
PAIRS = QualitySet("pairs", "short", "long", ROWS[:1], ROWS[:1], ROWS, ROWS[:2], 1, 0, None)
LABELS = QualitySet(
    "labels",
    "short",
    "long",
    ROWS[:1],
    ROWS[:1],
    ROWS,
    ROWS[:2],
    1,
    3,
    lambda rows, given: exact_match(["Yes"] * 4, given),
)


def batch(places: list[int], found: list[object]) -> Batch:
    return Batch(places, found, 1.0, 1.0, 1)


def test_what_was_found_is_put_back_in_the_order_of_the_rows():
    own = [batch([3, 1], ["No", "Yes"]), batch([0, 2], ["Yes", ""])]
    assert measured(LABELS, own, own).counts[:, 0].tolist() == [1, 1, 0, 0]


def test_a_margin_is_what_is_preferred_beyond_the_base():
    base = [batch([1, 0, 2, 3], [2.0, -1.0, 0.5, 0.5])]
    own = [batch([0, 1, 2, 3], [-0.5, 1.0, 0.75, 0.5])]
    found = measured(PAIRS, base, own)
    # Better, worse, better, as it was: by margin, whatever is likelier.
    assert found.counts[:, 0].tolist() == [1, 0, 1, 0.5]
    assert found.figures["likelier_rate"] == pytest.approx(3 / 4)
    assert measured(PAIRS, base, base).value == 0.5


def test_only_what_was_given_beforehand_differs_between_the_ways(tmp_path: Path):
    orders = {name: order_of(LABELS, name, State(tmp_path)) for name in ("base", "few_shot", "lora", "full")}
    assert {order.rows for order in orders.values()} == {ROWS}
    assert {order.tokenizer for order in orders.values()} == {orders["base"].model}
    assert [order.system for order in orders.values()] == ["long", "long", "short", "short"]
    assert [len(order.shots) for order in orders.values()] == [0, 2, 0, 0]
    assert orders["lora"].model == orders["base"].model
    assert orders["lora"].adapter == str(tmp_path / "weights-lora")
    assert (orders["full"].model, orders["full"].adapter) == (str(tmp_path / "weights-full"), "")


def answered(right: int) -> Measured:
    """Of 200 rows so many right ones, the first."""
    return exact_match(["Yes"] * 200, ["Yes"] * right + [""] * (200 - right))


def test_what_was_trained_is_held_to_the_floor_row_by_row_where_a_set_has_one(capsys: pytest.CaptureFixture[str]):
    ways = {"lora": answered(160), "full": answered(80), "other": answered(121)}
    found = over_floor(ways, answered(120), seed=0)
    assert [round(each.difference, 3) for each in found.values()] == [0.2, -0.2, 0.005]
    assert [each.verdict for each in found.values()] == ["above", "below", "not told apart"]
    assert over_floor(ways, None, seed=0) == {}

    costs = dict.fromkeys((cost for cost in Way.__slots__ if cost != "measured"), 1)
    compared = Compared(
        {name: Way(each, **costs) for name, each in ways.items()},
        Interval(0.4, 0.3, 0.5),
        answered(120),
        {name: found[name] for name in ("lora", "full")},
        None,
        1.0,
    )
    line = figures(LABELS, compared)
    assert line["lora_minus_floor"] == [round(each, 4) for each in (0.2, found["lora"].low, found["lora"].high)]
    assert line["full_minus_floor"] == [round(each, 4) for each in (-0.2, found["full"].low, found["full"].high)]
    told(LABELS, compared, 0)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2].startswith("lora minus that floor, accuracy: +0.200 [")
    assert [sentence.rpartition(": ")[2] for sentence in printed[-2:]] == ["above", "below"]
