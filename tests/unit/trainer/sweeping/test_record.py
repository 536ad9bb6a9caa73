"""The table that a version keeps of a sweep: what stands in it, and that the registry takes it whatever comes."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import Failure
from services.registry import publishing
from services.trainer.job import Progress, State
from services.trainer.settings import Metric
from services.trainer.solo.order import MARGIN
from services.trainer.sweeping.axes import MAX_MEMBERS, Point
from services.trainer.sweeping.record import MOST_TABLE_BYTES, lineage, most_bytes, require_room
from services.trainer.sweeping.sweep import Asked, Member, Sweep, SweepState, table
from tests.unit.trainer.sweeping.test_sweep import NOW, ORDER, SETTINGS, member

UUID = "019ad0b2-0000-7000-8000-000000000000"


def test_the_table_that_a_version_keeps_is_json_with_the_best_first() -> None:
    def one(name: str, loss: float, state: State, rung: int) -> Member:
        found = member(state=state, evaluations={20: {"loss": loss}, 40: {"loss": loss}}, trained=not rung)
        return replace(found, job=replace(found.job, job=name), ended_at_rung=rung, point=(("lora.rank", name),))

    members = (
        one("worse", 2.0, State.CANCELLED, 3),
        one("nan", math.nan, State.CANCELLED, 1),
        one("best", 1.0, State.REGISTERING, 0),
        one("early", 5.0, State.CANCELLED, 1),
    )
    sweep = Sweep("acme", "s", members, (0.5, 0.75), 0.5, SweepState.RUNNING, NOW, best="best")
    kept = json.loads(json.dumps(lineage(sweep), allow_nan=False))
    assert kept["members"][0]["job"] == "best"
    assert kept["members"][0] == {
        "place": 1,
        "job": "best",
        "values": {"lora.rank": "best"},
        "step": 20,
        "ended_at_rung": 0,
        "end": "best",
        "evaluation": {"loss": 1.0},
    }
    assert next(entry for entry in kept["members"] if entry["job"] == "nan")["evaluation"] == {}
    # Rungs are counted up to the last one that there is: what was beaten at its end was ended at none.
    assert {entry["job"]: entry["ended_at_rung"] for entry in kept["members"]} == {
        "best": 0, "worse": 0, "early": 1, "nan": 1
    }  # fmt: skip
    assert [line.place for line in table(sweep)] == [1, 2, 3, 4]
    # While it runs, only the places of those that ended are known.
    running = {line.member.job.job: line.place for line in table(replace(sweep, best=""))}
    assert (running["best"], running["early"] > 0) == (0, True)


def swept(points: list[Point], evaluation: dict[str, float], rungs: tuple[float, ...]) -> tuple[Asked, Sweep]:
    """What is asked for, and the sweep once all have ended."""
    order = replace(ORDER, settings=replace(SETTINGS, metric=Metric.PREFERENCE_ACCURACY))
    ended = member(State.FAILED, ended_at_rung=len(rungs), evaluations={10_000_000: evaluation}, trained=True)
    job = replace(ended.job, job=UUID, order=order, progress=Progress(10_000_000, 10_000_000))
    members = tuple(replace(ended, point=point, job=job) for point in points)
    sweep = Sweep("acme", UUID, members, rungs, 0.30000000000000004, SweepState.RUNNING, NOW)
    return Asked((order,) * len(points), tuple(points), rungs, 0.5), sweep


TEXTS = st.text(st.characters(codec="utf-8"), max_size=64)


@given(
    st.lists(st.lists(st.tuples(TEXTS, TEXTS), max_size=4, unique_by=lambda pair: pair[0]).map(tuple), min_size=1),
    st.dictionaries(st.sampled_from([*(metric.value for metric in Metric), MARGIN]), st.floats()),
    st.lists(st.floats(0.1, 0.9), max_size=3).map(tuple),
)
def test_no_table_becomes_longer_than_was_reckoned(
    points: list[Point], evaluation: dict[str, float], rungs: tuple[float, ...]
) -> None:
    asked, sweep = swept(points, evaluation, rungs)
    kept = json.dumps(lineage(sweep), ensure_ascii=False, separators=(",", ":"))
    assert len(kept.encode()) <= most_bytes(asked)


def rates(count: int, letters: int) -> Asked:
    points: list[Point] = [(("learning_rate", f"{number:0{letters}}"), ("lora.rank", "16")) for number in range(count)]
    return swept(points, {}, (0.25, 0.5))[0]


def test_a_sweep_whose_table_the_registry_would_refuse_is_refused_first() -> None:
    # The largest that there is, with values as people write them.
    require_room(rates(MAX_MEMBERS, 9))
    require_room(rates(100, 512))
    with pytest.raises(Failure) as refused:
        require_room(rates(MAX_MEMBERS, 512))
    assert refused.value.field == "members"
    assert "that of these 1024 may have 9" in refused.value.sentence
    assert "KiB, over 576: give fewer members, or fewer and shorter values" in refused.value.sentence


def test_what_else_a_manifest_holds_has_room_beside_the_table() -> None:
    assert MOST_TABLE_BYTES <= publishing._MOST_MANIFEST_BYTES * 3 / 4
