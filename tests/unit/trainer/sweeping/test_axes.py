"""From axes to members."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import Failure, Reason
from services.trainer.settings import Metric
from services.trainer.sweeping.axes import MAX_MEMBERS, Axis, Range, expand
from services.trainer.sweeping.searchable import Kind, incomparable, searchable, searchables

RATES = Axis("learning_rate", ("1e-3", "0.0003"))
RANKS = Axis("lora.rank", ("4", "8", "16"))


def refused(*axes: Axis, members: int = 0) -> tuple[str, str]:
    """The field and the problem of axes that are refused."""
    with pytest.raises(Failure) as raised:
        expand(axes, members, 0)
    assert raised.value.reason is Reason.FIELD_INVALID
    return str(raised.value.field), raised.value.variables["problem"]


def values(names: list[str]) -> st.SearchStrategy[list[Axis]]:
    """Axes with some values each."""
    texts = {
        "learning_rate": st.floats(1e-6, 1.0).map(repr),
        "lora.rank": st.integers(1, 512).map(str),
        "schedule": st.sampled_from(["LINEAR", "cosine", "Constant"]),
        "gradient_checkpointing": st.sampled_from(["true", "False"]),
    }
    lists = [st.lists(texts[name], min_size=1, max_size=5, unique_by=str.lower) for name in names]
    return st.tuples(*lists).map(
        lambda found: [Axis(name, tuple(texts)) for name, texts in zip(names, found, strict=True)]
    )


NAMES = st.lists(
    st.sampled_from(["learning_rate", "lora.rank", "schedule", "gradient_checkpointing"]),
    min_size=1,
    max_size=4,
    unique=True,
)


@given(NAMES.flatmap(values))
def test_a_grid_holds_every_combination_once_in_the_order_of_the_axes(axes: list[Axis]) -> None:
    points = expand(axes, 0, seed=1)
    columns = [[(axis.setting, value) for value in axis.values] for axis in axes]
    assert points == list(itertools.product(*columns))


@given(NAMES.flatmap(values), st.data(), st.integers(0, 2**40))
def test_drawn_members_are_different_points_of_the_grid_and_the_same_for_the_same_seed(
    axes: list[Axis], data: st.DataObject, seed: int
) -> None:
    grid = expand(axes, 0, seed)
    count = data.draw(st.integers(1, len(grid)))
    drawn = expand(axes, count, seed)
    assert len(set(drawn)) == len(drawn) == count
    assert set(drawn) <= set(grid)
    assert drawn == expand(axes, count, seed)


@given(
    st.floats(1e-6, 1.0), st.floats(1.5, 50.0), st.booleans(), st.integers(1, 30), st.integers(0, 2**40), st.booleans()
)
def test_what_is_drawn_from_a_range_lies_in_it(
    low: float, factor: float, logarithmic: bool, count: int, seed: int, whole: bool
) -> None:
    span = Range(math.ceil(low), math.ceil(low) + 40, logarithmic) if whole else Range(low, low * factor, logarithmic)
    axis = Axis("lora.rank" if whole else "learning_rate", range=span)
    points = expand([axis], count, seed)
    kind = searchable(axis.setting)
    drawn = [kind.parse(text) for ((_, text),) in points]
    assert all(isinstance(value, int if whole else float) for value in drawn)
    # What is written with six digits may miss the end of the range by as little.
    assert all(span.low * (1 - 1e-5) <= value <= span.high * (1 + 1e-5) for value in drawn)  # type: ignore[operator]  # numbers, as asserted above
    assert len(set(drawn)) == count


def test_a_logarithmic_range_is_drawn_from_evenly_in_the_logarithm() -> None:
    drawn = expand([Axis("learning_rate", range=Range(1e-5, 1e-1, logarithmic=True))], 1000, 3)
    below = sum(float(text) < 1e-3 for ((_, text),) in drawn)
    assert 430 < below < 570
    evenly = expand([Axis("learning_rate", range=Range(1e-5, 1e-1))], 1000, 3)
    assert sum(float(text) < 1e-3 for ((_, text),) in evenly) < 40


def test_another_seed_draws_other_members() -> None:
    axis = Axis("learning_rate", range=Range(1e-5, 1e-2, logarithmic=True))
    assert expand([axis], 8, 1) != expand([axis], 8, 2)


def test_a_name_that_is_no_setting_is_answered_with_those_like_it() -> None:
    field, problem = refused(Axis("lerning_rate", ("1",)))
    assert field == "axes[0].setting"
    assert problem.startswith("no setting is named lerning_rate; names like it: learning_rate")
    assert "lora.rank" in refused(RATES, Axis("rank", ("1",)))[1]


@pytest.mark.parametrize(
    ("axis", "field", "words"),
    [
        (Axis("lora.rank", ("8", "many")), "axes[0].values", "lora.rank takes a whole number, not 'many'"),
        (Axis("learning_rate", ("nan",)), "axes[0].values", "learning_rate takes a number, not 'nan'"),
        (Axis("schedule", ("SQUARE",)), "axes[0].values", "one of LINEAR, COSINE, CONSTANT, STABLE_DECAY"),
        (Axis("packing", ("maybe",)), "axes[0].values", "packing takes true or false"),
        (Axis("lora.layers", ("0,x",)), "axes[0].values", "whole numbers with commas between them"),
        (Axis("lora.rank", ("8", " 8")), "axes[0].values", "twice"),
        (Axis("lora.rank"), "axes[0]", "either values or a range"),
        (Axis("lora.rank", ("8",), Range(1, 2)), "axes[0]", "either values or a range"),
        (Axis("learning_rate", range=Range(1, 2)), "axes[0].range", "a range has no grid"),
        (Axis("metric", ("LOSS",)), "axes[0].setting", "set it in job.settings"),
        (Axis("lora.rank_pattern", ("q:1",)), "axes[0].setting", "write the members out"),
    ],
)
def test_an_axis_that_is_none_is_refused_with_what_to_do(axis: Axis, field: str, words: str) -> None:
    found, problem = refused(axis)
    assert found == field
    assert words in problem


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        (Axis("schedule", range=Range(0, 1)), "give values instead of a range"),
        (Axis("learning_rate", range=Range(2, 1)), "low must not be above high"),
        (Axis("learning_rate", range=Range(0, 1, logarithmic=True)), "begins above 0"),
        (Axis("lora.rank", range=Range(1.2, 1.8)), "none lies from 1.2 to 1.8"),
        (Axis("learning_rate", range=Range(0, math.inf)), "low must not be above high"),
    ],
)
def test_a_range_that_is_none_is_refused_with_what_to_do(axis: Axis, words: str) -> None:
    field, problem = refused(axis, members=3)
    assert field == "axes[0].range"
    assert words in problem


def test_more_members_than_a_sweep_takes_are_refused_with_their_number() -> None:
    many = tuple(str(number) for number in range(1, 65))
    field, problem = refused(Axis("lora.rank", many), Axis("epochs", many))
    assert field == "axes"
    assert "4096 members" in problem
    assert f"at most {MAX_MEMBERS}" in problem
    assert len(expand([Axis("lora.rank", many), Axis("epochs", many)], 7, 0)) == 7
    assert refused(RANKS, members=MAX_MEMBERS + 1)[0] == "random_members"


def test_members_are_drawn_from_a_grid_that_has_no_length() -> None:
    many = tuple(str(number) for number in range(1, 65))
    names = [name for name, entry in searchables().items() if entry.kind in (Kind.INTEGER, Kind.NUMBER)][:11]
    axes = [Axis(name, many) for name in names]
    drawn = expand(axes, 50, 1)
    assert len(axes) == 11
    assert len(set(drawn)) == 50
    assert drawn == expand(axes, 50, 1) != expand(axes, 50, 2)
    assert [name for name, _ in drawn[0]] == names


def test_more_random_members_than_there_are_different_ones_are_refused() -> None:
    assert "the axes have 6 different members, 7 are asked for" in refused(RATES, RANKS, members=7)[1]
    assert "the axes have 3 different members" in refused(Axis("lora.rank", range=Range(1, 3)), members=4)[1]


def test_no_axes_and_an_axis_given_twice_are_refused() -> None:
    assert refused()[0] == "axes"
    assert "stands in two axes" in refused(RANKS, RANKS)[1]


def test_every_setting_is_an_axis_unless_it_is_what_members_are_compared_by() -> None:
    assert searchables()["lora.rank"].kind is Kind.INTEGER
    assert searchables()["preference.beta"].parse("0.5") == 0.5
    assert searchables()["lora.target_modules"].parse("q_proj, v_proj") == ("q_proj", "v_proj")
    assert searchables()["method"].parse("rslora") == "RSLORA"
    assert not {"metric", "objective", "validation_ratio"} & set(searchables())


def test_what_changes_the_measure_or_the_rows_it_is_taken_on_is_not_compared() -> None:
    assert incomparable("learning_rate", Metric.LOSS, rows_are_given=False) is None
    assert "validation_dataset" in str(incomparable("seed", Metric.LOSS, rows_are_given=False))
    assert incomparable("seed", Metric.LOSS, rows_are_given=True) is None
    assert "another metric" in str(incomparable("beta", Metric.LOSS, rows_are_given=True))
    assert incomparable("beta", Metric.PREFERENCE_ACCURACY, rows_are_given=False) is None
