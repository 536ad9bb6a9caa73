"""What a joint step holds is measured once on a machine."""

import json
import os
import time
from pathlib import Path

from services.trainer.joint.budget import limits_of, step_limits


class Machine:
    """A clock that a pass moves on; larger passes are better up to 1024 tokens."""

    def __init__(self) -> None:
        self.now = 0.0
        self.passes = 0

    def run(self, tokens: int) -> None:
        self.passes += 1
        self.now += tokens / min(tokens, 1024)

    def clock(self) -> float:
        return self.now


def test_the_smallest_pass_that_is_nearly_the_fastest_is_the_budget() -> None:
    assert limits_of({256: 500.0, 512: 900.0, 1024: 1000.0, 2048: 1010.0}).budget_tokens == 1024


def test_a_machine_is_measured_once_and_what_was_spoilt_is_measured_again(tmp_path: Path) -> None:
    machine, path = Machine(), tmp_path / "cache" / "budget.json"
    first = step_limits(path, machine.run, machine.clock)
    assert (first.budget_tokens, first.max_members) == (1024, 32)
    measured = machine.passes
    assert step_limits(path, machine.run, machine.clock) == first
    assert machine.passes == measured
    for spoilt in ("", "[]", json.dumps({"256": 1.0}), json.dumps(dict.fromkeys(("256", "512", "1024", "2048"), 0))):
        path.write_text(spoilt)
        before = machine.passes
        assert step_limits(path, machine.run, machine.clock) == first
        assert machine.passes > before


def test_after_a_week_a_machine_is_measured_again(tmp_path: Path) -> None:
    machine, path = Machine(), tmp_path / "budget.json"
    step_limits(path, machine.run, machine.clock)
    for days, anew in ((6, False), (8, True), (6, False)):
        at = time.time() - days * 24 * 3600
        os.utime(path, (at, at))
        before = machine.passes
        step_limits(path, machine.run, machine.clock)
        assert (machine.passes > before) == anew
