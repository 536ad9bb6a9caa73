"""What a job costs: processor seconds, memory and time of the processes that the trainer starts for it.

Invariant: only processes below the trainer count, which starts one for each job here and ends it with the job; what was
counted before a kill is gone on with, so a job's cost is the sum over all processes that it ever had.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import psutil

from tests.load.finetune_quality.state import State

_SAMPLE_SECONDS = 1.0
_KEEP_SECONDS = 5.0
_END_SECONDS = 120.0


@dataclass(slots=True)
class Usage:
    """Seconds in which a process lived, its processor seconds, the most proportional memory (PSS) of all at once."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def wait_for_quiet(trainer: int) -> None:
    """Wait until no process lives below the process `trainer`: what the last job's spent is not the next one's.

    Raises TimeoutError.
    """
    _, left = psutil.wait_procs(_below(psutil.Process(trainer)), timeout=_END_SECONDS)
    if left:
        raise TimeoutError(f"the processes of a job that has ended are there {_END_SECONDS:g} s later")


@contextmanager
def counted(trainer: int, state: State, name: str) -> Iterator[Usage]:
    """Count what lives below the process `trainer` while the block lasts, on from what `state` has under `name`."""
    usage = Usage(**(state.read(name) or {}))
    ended = threading.Event()
    thread = threading.Thread(target=_count, args=(psutil.Process(trainer), usage, ended, state, name), daemon=True)
    thread.start()
    try:
        yield usage
    finally:
        ended.set()
        thread.join()
        state.write(name, asdict(usage))


def _count(trainer: psutil.Process, usage: Usage, ended: threading.Event, state: State, name: str) -> None:
    before = usage.cpu_seconds
    by_process: dict[psutil.Process, float] = {}
    last, kept = time.monotonic(), time.monotonic()
    over = False
    while not over:
        # Once more at the end: a job may be shorter than the time between two looks.
        over = ended.wait(_SAMPLE_SECONDS)
        living, memory_bytes = 0, 0
        for process in _below(trainer):
            try:
                spent = process.cpu_times()
                memory_bytes += process.memory_full_info().pss
            except psutil.Error:
                continue
            living += 1
            by_process[process] = spent.user + spent.system
        now = time.monotonic()
        usage.wall_seconds += now - last if living else 0.0
        usage.cpu_seconds = before + sum(by_process.values())
        usage.peak_bytes = max(usage.peak_bytes, memory_bytes)
        last = now
        if now - kept > _KEEP_SECONDS:
            state.write(name, asdict(usage))
            kept = now


def _below(trainer: psutil.Process) -> list[psutil.Process]:
    try:
        return trainer.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
