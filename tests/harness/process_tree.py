"""Processor time of a process and of everything below it, from the kernel's own counts.

A test's cost is what its lane and the servers that it started take together.  The seconds of a process that has ended
count from the moment its parent has waited for it; those of a process whose parent ended first are lost.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the command's closing parenthesis, see proc(5).
_PARENT = 1
_TIMES = slice(11, 15)  # utime, stime, cutime, cstime


def processor_seconds(root: int | None = None) -> float:
    """Return the processor seconds, user and system, that ``root`` (default: this process) and its descendants took."""
    root = os.getpid() if root is None else root
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in os.listdir(_PROC):
        if not entry.isdigit():
            continue
        try:
            stat = (_PROC / entry / "stat").read_bytes()
        except OSError:  # it ended between the listing and the read
            continue
        fields = stat[stat.rindex(b")") + 2 :].split()
        parents[int(entry)] = int(fields[_PARENT])
        ticks[int(entry)] = sum(int(field) for field in fields[_TIMES])
    return sum(ticks[process] for process in ticks if _is_below(process, root, parents)) / _TICKS_PER_SECOND


def _is_below(process: int, root: int, parents: dict[int, int]) -> bool:
    while process in parents:
        if process == root:
            return True
        process = parents[process]
    return False
