"""The threads of a process spin while the cores are theirs, and sleep while others want them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

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


def in_process(code: str) -> list[str]:
    """What the code prints, in a process whose loops are shared by two threads."""
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return run.stdout.split()


def test_a_second_team_puts_the_first_to_sleep() -> None:
    """A thread that sleeps gives its core up at each wait; one that spins does so at few of them.

    Where others run at the same time a spinning one gives up too, so it is tried until nobody else runs, for a minute at most.
    """
    spun, slept, spun_again = map(
        int,
        in_process(
            "import os, resource, time\n"
            "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])\n"
            "import torch\n"
            "from services.chassis.waiting import Waiting\n"
            "x = torch.zeros(1 << 17)\n"
            "def given_up():\n"
            "    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw\n"
            "def loops():\n"
            "    before = given_up()\n"
            "    for _ in range(2000):\n"
            "        x.add_(1.0)\n"
            "        until = time.perf_counter() + 5e-5\n"
            "        while time.perf_counter() < until: pass\n"
            "    return given_up() - before\n"
            "x.add_(1.0)\n"
            "best, last = (4000, 4000, 4000), time.monotonic() + 60\n"
            "while max(best[0], best[2]) > best[1] / 2 and time.monotonic() < last:\n"
            "    spun = loops()\n"
            "    waiting = Waiting(2)\n"
            "    slept = loops()\n"
            "    waiting.close()\n"
            "    best = min(best, (spun, slept, loops()), key=lambda it: max(it[0], it[2]) / max(1, it[1]) + (it[1] < 3000))\n"
            "print(*best)\n"
        ),
    )
    # A team that sleeps does so at nearly every loop, two threads each, whoever else runs: 4000 times.
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
        "    delays = Delays(); before, until = delays.seconds(), time.perf_counter() + 2.0\n"
        "    while time.perf_counter() < until: pass\n"
        "    after = delays.seconds()\n"
        "finally:\n"
        "    other.kill(); other.wait()\n"
        "file = Path('/proc/self/schedstat')\n"
        "account = file.exists() and int(file.read_text().split()[2])\n"
        "print(after - before if account else (before, after) == (None, None), bool(account))\n"
    )
    if account == "True":
        assert float(waited) > 0.4
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
