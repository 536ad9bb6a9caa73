"""How much memory a command takes at its peak, whatever the process has taken that asks.

Linux counts what a process was before its exec to what it takes, and `subprocess` starts it in the memory of the one
that asks: a command seems never smaller than the most that a run of tests has ever held.  So a small process starts it
here, and asks for what it took.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_STARTER = """
import json, os, resource, sys
to, most, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
os.set_inheritable(to, False)
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
_, status, used = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
os.write(to, json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024]).encode())
"""


@dataclass(frozen=True)
class Measured:
    """What a command said, its exit status (negative for a signal), and the resident memory of its largest process."""

    output: bytes
    status: int
    peak_bytes: int


def measured(command: Sequence[str], most_data_bytes: int) -> Measured:
    """Run a command, whose first word is a path, to its end; each of its processes is refused more than so much data.

    Those count that the command itself has waited for.
    """
    found, to = os.pipe()
    with open(found, "rb") as said:
        try:
            # Nothing of what a site adds, which takes memory.
            starter = [sys.executable, "-I", "-S", "-c", _STARTER, str(to), str(most_data_bytes), *command]
            output = subprocess.run(starter, stdout=subprocess.PIPE, pass_fds=[to], check=True).stdout
        finally:
            os.close(to)
        status, peak_bytes = json.loads(said.read())
    return Measured(output, status, peak_bytes)


def peak_memory_bytes() -> int:
    """The most memory that this process has held resident since its exec.

    What getrusage(2) tells begins with what its parent had been: Linux counts the time before the exec as well.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
