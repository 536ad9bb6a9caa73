"""Who has had the processors is measured: what serves, other programs, and not the asking process with its own."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from services.chassis import process_identity
from services.chassis.core_use import CoreMeter, CoreUse
from tests.harness.clock import ManualClock

_SPIN = "while True: pass"


class _Times(NamedTuple):
    user: float
    nice: float
    system: float
    idle: float


@pytest.fixture
def stranger() -> Iterator[psutil.Process]:
    """A process that uses a core and is nobody's child here."""
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(_SPIN)} >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True, text=True).stdout)
    yield psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)


def used(process: psutil.Process, seconds: float) -> None:
    """Wait until a process has used so much more processor time."""
    begun = process.cpu_times().user
    while process.cpu_times().user < begun + seconds:
        time.sleep(0.02)


def at_rest(process: psutil.Process) -> float:
    """Stop a process; the processor seconds that it used until then."""
    process.suspend()
    while process.status() != psutil.STATUS_STOPPED:
        time.sleep(0.001)
    times = process.cpu_times()
    return float(times.user + times.system)


def says_that_it_runs(data_dir: Path, process: psutil.Process) -> None:
    identity = f"{process_identity.own().rsplit('/', 2)[0]}/{process.pid}/{process.create_time():.2f}"
    (data_dir / "run").mkdir()
    (data_dir / "run" / "generator.json").write_text(json.dumps({"process": identity}))


@pytest.fixture
def everybody(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Processor seconds of the machine, for a test to set."""
    seconds = [100.0]
    cpus = max(os.sched_getaffinity(0)) + 1

    def times(percpu: bool) -> list[_Times]:
        assert percpu
        return [_Times(seconds[0] / len(os.sched_getaffinity(0)), 0.0, 0.0, 9.0)] * cpus

    monkeypatch.setattr(psutil, "cpu_times", times)
    return seconds


def test_a_service_that_runs_and_one_that_works_are_told_apart(
    tmp_path: Path, stranger: psutil.Process, everybody: list[float]
) -> None:
    says_that_it_runs(tmp_path, stranger)
    before = at_rest(stranger)
    clock = ManualClock()
    meter = CoreMeter(tmp_path, clock)
    clock.now, everybody[0] = 10.0, 115.0
    idle = meter()
    assert idle.serving == 0.0
    assert idle.others == pytest.approx(1.5, abs=0.1)
    stranger.resume()
    used(stranger, 0.5)
    worked = at_rest(stranger) - before
    clock.now = 19.9
    assert meter() == idle
    clock.now, everybody[0] = 20.0, 115.0 + worked + 4.5
    busy = meter()
    assert busy.serving == pytest.approx(worked / 10, abs=0.005)
    assert busy.others == pytest.approx(0.45, abs=0.05)


def test_what_the_asking_process_and_its_children_use_is_not_others(tmp_path: Path, everybody: list[float]) -> None:
    clock = ManualClock()
    meter = CoreMeter(tmp_path, clock)
    assert meter() == CoreUse()
    child = subprocess.Popen([sys.executable, "-c", _SPIN])
    try:
        used(psutil.Process(child.pid), 1.0)
        clock.now, everybody[0] = 10.0, 101.0
        assert meter() == CoreUse(0.0, 0.0)
    finally:
        child.kill()
        child.wait()
