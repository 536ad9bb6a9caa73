"""What a process of ours does when it is somebody's child: its lines get a descriptor of their own, itself gets limits.

For children that read what users wrote.  The limits end such a process by themselves, also in the middle of native
code, where no signal handler of Python's would run: SIGPROF for time, a refused allocation for memory.
Invariant: what is given up here is never taken back.
"""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

# Exit status when Python itself was refused more memory.
OUT_OF_MEMORY = 71
# What a process ends with that was refused memory in native code, or whose stack was too small.
_NATIVE = frozenset({-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS})


def ran_out_of_time(status: int) -> bool:
    """Whether this exit status is that of a process which took more than `processor_time` gave it."""
    return status == -signal.SIGPROF


def ran_out_of_memory(status: int) -> bool:
    """Whether this exit status is that of a process which was refused memory."""
    return status == OUT_OF_MEMORY or status in _NATIVE


def own_output() -> BinaryIO:
    """The standard output, for our lines alone: what libraries print goes to the standard error from now on."""
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return output


def write_whole(output: BinaryIO, data: bytes) -> None:
    """Write all of it: a pipe takes what fits."""
    left = memoryview(data)
    while left:
        left = left[output.write(left) :]


def leave_out(module: str) -> None:
    """From now on the module counts as not installed, whose import would take seconds and memory, or reach out."""
    if module not in sys.modules:
        # None makes its import fail.
        modules: dict[str, Any] = sys.modules
        modules[module] = None


def confine(memory_bytes: int | None = None) -> None:
    """Let this process write no file and dump no core, and take so much memory beyond what it has now.

    None leaves memory to `bound_memory`, for a child that lives from task to task.
    """
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    if memory_bytes is not None:
        most = _data_bytes() + memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def bound_memory(memory_bytes: int) -> None:
    """Let this process take so much memory beyond what it has now, until it is bound anew."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + memory_bytes, most))


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """The process ends when the block takes more processor time: the default action of SIGPROF."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _data_bytes() -> int:
    """What already counts against RLIMIT_DATA."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024
