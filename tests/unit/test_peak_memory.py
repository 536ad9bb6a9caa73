"""What a command takes at its peak is told without what the tests have taken before it."""

import signal
import sys

from tests.peak_memory import measured

GIB, MIB = 1 << 30, 1 << 20


def test_a_command_is_measured_without_the_process_that_asks() -> None:
    # Written to, and so resident; what was given back counts as well to what a child of this process seems to take.
    assert len(b"x" * (512 * MIB)) == 512 * MIB
    small = measured([sys.executable, "-c", "print('here')"], GIB)
    assert (small.output, small.status) == (b"here\n", 0)
    assert small.peak_bytes < 64 * MIB
    larger = measured([sys.executable, "-c", f"b'x' * {200 * MIB}"], GIB)
    assert 200 * MIB < larger.peak_bytes < 264 * MIB


def test_a_child_of_the_command_counts_and_its_end_is_told() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', \"b'x' * {200 * MIB}\"])"
    assert measured([sys.executable, "-c", child], GIB).peak_bytes > 200 * MIB
    killed = measured([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], GIB)
    assert killed.status == -signal.SIGKILL


def test_a_command_is_refused_more_than_it_may_have() -> None:
    found = measured([sys.executable, "-c", f"b'x' * {200 * MIB}"], 100 * MIB)
    assert found.status == 1
    assert found.peak_bytes < 100 * MIB
