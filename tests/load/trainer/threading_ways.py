"""The ways in which two threads may wait for one another, since what is best differs between us and a peer.

Each measurement runs in a process of its own for each way: ``python -m tests.load.trainer.threading_ways NAME ARGUMENTS``
takes one of ``MEASUREMENTS`` with its arguments as JSON, and ends with its figures as a line of JSON.  Both sides of a
ratio always run in the same way, in turn; a ratio is taken in the way in which the peer is fastest.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from services.chassis import resources
from tests import tied
from tests.load.trainer.floor import floor_figures
from tests.load.trainer.joint_speed import joint_figures
from tests.load.trainer.mixed_rates import mixed_rates
from tests.load.trainer.parts import Figures
from tests.load.trainer.trl_peer import trl_figures
from tests.load.trainer.workers import THREADS

MEASUREMENTS: Mapping[str, Callable[..., Figures]] = {
    "joint": joint_figures,
    "floor": floor_figures,
    "trl": trl_figures,
    "mixed": mixed_rates,
}
# libgomp's own waiting, and the trainer's.
WAYS = ("spinning", "sleeping")
_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def environment(way: str) -> dict[str, str]:
    """The variables of a process whose threads wait in that way."""
    bare = {name: value for name, value in os.environ.items() if name not in _WAITING}
    own = resources.shares()[resources.Role.TRAINER].environment()
    waiting = {name: value for name, value in own.items() if way == "sleeping" or name not in _WAITING}
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
    return bare | waiting | counts


def measured(way: str, name: str, **arguments: Any) -> Figures:
    """A measurement's figures, from a process of its own."""
    process = tied.start(
        [sys.executable, "-m", "tests.load.trainer.threading_ways", name, json.dumps(arguments)],
        stdout=-1,
        text=True,
        env=environment(way),
    )
    output, _ = process.communicate()
    assert process.returncode == 0, f"{name} {arguments} ended with {process.returncode}"
    found: Figures = json.loads(output.splitlines()[-1])
    return found


def fairest(key: str, name: str, **arguments: Any) -> tuple[Figures, dict[str, float]]:
    """The figures in the way in which the peer's speed at `key` is highest, and that speed in each way."""
    found = {way: measured(way, name, **arguments) for way in WAYS}
    speeds = {way: float(each[key]) for way, each in found.items()}
    best = max(speeds, key=lambda way: speeds[way])
    return {**found[best], "threads_wait": best}, speeds


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**json.loads(sys.argv[2]))))
