"""Work in forks of this process, and the death of a process at a chosen step."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

# Descriptors from here on are free.
_FREE = 100


def exit_with(work: Callable[[], int | None]) -> NoReturn:
    """Run the work of a fork, and end the process with the status that it returns: a fork never returns to its parent's code."""
    status = 1
    try:
        status = work() or 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # no exception may leave the fork
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run_in_fork(work: Callable[[], int | None]) -> int:
    """Run some work in a fork of this process; return its exit status, negative for a signal."""
    # Both processes would write the parent's buffered output.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        exit_with(work)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def place_descriptors(numbers: Sequence[int], files: Sequence[int]) -> None:
    """Give each open file its number; the current numbers may be any."""
    held = [fcntl.fcntl(file, fcntl.F_DUPFD, _FREE) for file in files]
    for file in files:
        os.close(file)
    for number, file in zip(numbers, held, strict=True):
        os.dup2(file, number)
        os.close(file)


class KillAt:
    """Counts steps, from 1, and ends the process by SIGKILL at the one of this number; 0 is never."""

    def __init__(self, number: int) -> None:
        self.passed = 0
        self._number = number
        # Threads that pass steps side by side each draw a different number.
        self._numbers = itertools.count(1)

    def __call__(self, _: object = None) -> None:
        """Pass one more step."""
        self.passed = number = next(self._numbers)
        if number == self._number:
            os.kill(os.getpid(), signal.SIGKILL)
