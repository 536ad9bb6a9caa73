"""The threads of a process spin while the cores are theirs, and sleep while others want them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from services.chassis.waiting import ENVIRONMENT, Delays, Waiting

ROOT = Path(__file__).resolve().parents[3]


class Machine:
    """A clock, and threads that wait for cores."""

    def __init__(self) -> None:
        self.now = 0.0
        self.delayed: float | None = 0.0

    def pass_by(self, seconds: float, *, delayed: float) -> None:
        self.now += seconds
        assert self.delayed is not None
        self.delayed += delayed


@contextmanager
def waiting(machine: Machine, threads: int = 2) -> Iterator[Waiting]:
    with closing(Waiting(threads, clock=lambda: machine.now, delay_seconds=lambda: machine.delayed)) as found:
        yield found


def test_threads_spin_once_the_cores_are_quiet_and_sleep_when_others_want_them() -> None:
    machine = Machine()
    with waiting(machine) as those:
        assert not those.spins
        machine.pass_by(1.0, delayed=0.1)
        those.look()
        assert those.spins
        machine.pass_by(1.0, delayed=0.9)
        those.look()
        assert not those.spins


def test_a_moment_says_nothing() -> None:
    machine = Machine()
    with waiting(machine) as those:
        machine.pass_by(0.1, delayed=0.0)
        those.look()
        assert not those.spins
        machine.pass_by(0.5, delayed=0.0)
        those.look()
        machine.pass_by(0.1, delayed=0.2)
        those.look()
        assert those.spins


def test_where_the_system_does_not_tell_threads_sleep() -> None:
    machine = Machine()
    machine.delayed = None
    with waiting(machine) as those:
        machine.now = 1.0
        those.look()
        assert not those.spins


def test_a_single_thread_waits_for_nobody() -> None:
    with waiting(Machine(), threads=1) as those:
        assert those.spins


def in_process(code: str, environment: Mapping[str, str] = ENVIRONMENT) -> list[str]:
    """What the code prints, in a process whose loops are shared by two threads."""
    variables = os.environ | environment | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True, timeout=120
    )
    return run.stdout.split()


# How often the threads give up their cores in so many loops that they share.
LOOPS = """
import os, resource, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import torch
from services.chassis.waiting import Waiting
x = torch.zeros(1 << 17)
def given_up():
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
def loops():
    before = given_up()
    for _ in range({count}):
        x.add_(1.0)
        until = time.perf_counter() + 5e-5
        while time.perf_counter() < until: pass
    return given_up() - before
def spinning():
    # The runtime counts the threads of a team that has ended until they are gone: some rounds may still sleep.
    for _ in range(50):
        found = loops()
        if not found:
            break
    return found
def most():
    # A machine that stalls wakes the threads late, which then need not sleep.
    return max(loops() for _ in range(5))
x.add_(1.0)
"""


def test_a_second_team_puts_the_first_to_sleep() -> None:
    """A thread that sleeps gives its core up at each wait.

    One that spins would do so in the end, where somebody else has the core of whom it waits for; here it spins for longer
    than any wait takes, so that it does not matter who else runs.
    """
    without_end = {**ENVIRONMENT, "GOMP_SPINCOUNT": str(10**11)}
    measured = (
        "first, waiting = spinning(), Waiting(2); slept = most(); waiting.close(); print(first, slept, spinning())"
    )
    spun, slept, spun_again = map(int, in_process(LOOPS.format(count=20) + measured, without_end))
    # A team that sleeps does so at nearly every loop, two threads each.
    assert slept >= 2 * 20 * 3 / 4
    assert (spun, spun_again) == (0, 0)


@pytest.mark.soak
def test_a_wait_of_a_training_step_is_shorter_than_the_threads_spin() -> None:
    """Repeat for a minute at most: beside other processes a spinning thread gives up too."""
    spun, slept, spun_again = map(
        int,
        in_process(
            LOOPS.format(count=2000) + "best, last = (4000, 4000, 4000), time.monotonic() + 60\n"
            "while max(best[0], best[2]) > best[1] / 2 and time.monotonic() < last:\n"
            "    spun = loops(); waiting = Waiting(2); slept = loops(); waiting.close()\n"
            "    best = min(best, (spun, slept, loops()), key=lambda it: max(it[0], it[2]) / max(1, it[1]) + (it[1] < 3000))\n"
            "print(*best)\n"
        ),
    )
    assert slept >= 3000
    assert max(spun, spun_again) < slept * 3 / 4


def test_threads_that_wait_for_a_core_are_seen() -> None:
    """Two that compute without end on one core: each waits for about half of the time."""
    waited, account = in_process(
        "import os, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from services.chassis.waiting import Delays\n"
        "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
        "endless = 'print(flush=True)\\nwhile True: pass'\n"
        # Its end of the pipes is its own: should anything fail here, whoever reads of it does not wait for an endless one.
        "other = subprocess.Popen([sys.executable, '-c', endless], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "try:\n"
        "    other.stdout.readline()\n"
        "    delays = Delays(); before, until = delays.seconds(), time.process_time() + 0.25\n"
        "    while time.process_time() < until: pass\n"
        "    after = delays.seconds()\n"
        "finally:\n"
        "    other.kill(); other.wait()\n"
        "file = Path('/proc/self/schedstat')\n"
        "account = file.exists() and int(file.read_text().split()[2])\n"
        "print(after - before if account else (before, after) == (None, None), bool(account))\n"
    )
    if account == "True":
        assert float(waited) > 0.1
    else:
        assert waited == "True", "a system that keeps no such account is said to tell"


def test_what_ended_threads_waited_is_not_taken_back(tmp_path: Path) -> None:
    delays = Delays(tmp_path)
    for task, nanoseconds in (("1", 1_000_000_000), ("2", 500_000_000)):
        (tmp_path / task).mkdir()
        (tmp_path / task / "schedstat").write_text(f"7 {nanoseconds} 3")
    assert delays.seconds() == 1.5
    (tmp_path / "2" / "schedstat").unlink()
    (tmp_path / "2").rmdir()
    (tmp_path / "1" / "schedstat").write_text("9 1250000000 4")
    assert delays.seconds() == 1.75


def test_a_process_that_was_given_a_core_at_once_has_waited_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "schedstat").write_text("9 0 1")
    assert Delays(tmp_path).seconds() == 0.0


def test_a_system_without_such_an_account_does_not_tell(tmp_path: Path) -> None:
    assert Delays(tmp_path / "no such folder").seconds() is None
    (tmp_path / "1").mkdir()
    assert Delays(tmp_path).seconds() is None
    (tmp_path / "1" / "schedstat").write_text("0 0 0")
    assert Delays(tmp_path).seconds() is None
