"""What a process keeps for life is out of the collector's sight, and what collections take is measured."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.garbage import pauses_observed, set_apart
from services.chassis.telemetry import Telemetry
from tests.contract.chassis.echo import settings_in


@pytest.fixture(autouse=True)
def this_process() -> Iterator[None]:
    """As it was, afterwards: the suite's own garbage is to be collected."""
    yield
    gc.unfreeze()


class Loop:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_a_full_collection_does_not_look_at_what_was_set_apart() -> None:
    kept = [Loop() for _ in range(1000)]
    assert set_apart() > len(kept)
    seen = {id(thing) for thing in gc.get_objects()}
    assert not any(id(thing) in seen for thing in kept)


def test_garbage_is_freed_not_kept_for_ever_and_what_comes_later_is_freed_too() -> None:
    before = weakref.ref(Loop())
    set_apart()
    assert before() is None
    later = weakref.ref(Loop())
    gc.collect()
    assert later() is None


def test_pauses_are_told_by_generation_and_no_longer_than_asked(tmp_path: Path) -> None:
    telemetry = Telemetry(settings_in(tmp_path), "echo")

    def collections(generation: str) -> float | None:
        return telemetry.registry.get_sample_value("trivium_garbage_pause_seconds_count", {"generation": generation})

    with pauses_observed(telemetry):
        before = collections("2")
        assert before is not None
        gc.collect()
        assert collections("2") == before + 1
        taken = telemetry.registry.get_sample_value("trivium_garbage_pause_seconds_sum", {"generation": "2"})
        assert taken is not None
        assert 0 < taken < 60
    gc.collect()
    assert collections("2") == before + 1
