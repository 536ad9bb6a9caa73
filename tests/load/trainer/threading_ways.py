"""The ways in which two threads may wait for one another, since what is best differs between us and a peer.

Each measurement runs in a process of its own for each way.  Both sides of a ratio always run in the same way, in turn; a
ratio is taken in the way in which the peer is fastest.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from services.chassis import resources
from tests import tied
from tests.load.trainer.parts import Figures
from tests.load.trainer.workers import THREADS

# libgomp's own waiting, and the trainer's.
SPINNING, SLEEPING = "spinning", "sleeping"
WAYS = (SPINNING, SLEEPING)
_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def environment(way: str) -> dict[str, str]:
    """The variables of a process whose threads wait in that way."""
    bare = {name: value for name, value in os.environ.items() if name not in _WAITING}
    own = resources.shares()[resources.Role.TRAINER].environment()
    waiting = {name: value for name, value in own.items() if way == SLEEPING or name not in _WAITING}
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
    return bare | waiting | counts


def measured(way: str, name: str, **arguments: Any) -> Figures:
    """The figures of one of `measurements`, from a process of its own."""
    process = tied.start(
        [sys.executable, "-m", "tests.load.trainer.measurements", name, json.dumps(arguments)],
        stdout=-1,
        text=True,
        env=environment(way),
    )
    output, _ = process.communicate()
    assert process.returncode == 0, f"{name} {arguments} ended with {process.returncode}"
    found: Figures = json.loads(output.splitlines()[-1])
    return found


def ways_at(scale: float) -> tuple[str, ...]:
    """The ways that are tried: all at full size, else the trainer's own; spinning threads never end on a busy machine."""
    return WAYS if scale >= 1 else (SLEEPING,)


def fairest(ways: Sequence[str], key: str, name: str, **arguments: Any) -> tuple[Figures, dict[str, float]]:
    """The figures in the way in which the peer's speed at `key` is highest, of these ways, and that speed in each."""
    found = {way: measured(way, name, **arguments) for way in ways}
    speeds = {way: float(each[key]) for way, each in found.items()}
    best = max(speeds, key=lambda way: speeds[way])
    return {**found[best], "threads_wait": best}, speeds
