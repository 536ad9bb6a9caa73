"""Work in a fork ends there, and its parent learns how."""

import signal
import sys

from tests.harness.forks import KillAt, run_in_fork


def test_a_fork_ends_with_the_status_of_its_work() -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    assert run_in_fork(lambda: None) == 0
    assert run_in_fork(lambda: 7) == 7
    assert run_in_fork(lambda: sys.exit(3)) == 3
    assert run_in_fork(fail) == 1


def test_a_process_is_killed_at_one_step_and_counts_all_others() -> None:
    def steps(kill_at: int, count: int) -> int:
        kill = KillAt(kill_at)
        for _ in range(count):
            kill("step")
        return kill.passed

    assert run_in_fork(lambda: steps(3, 2)) == 2
    assert run_in_fork(lambda: steps(3, 3)) == -signal.SIGKILL
    assert run_in_fork(lambda: steps(0, 5)) == 5
