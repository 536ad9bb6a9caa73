"""Trains solo jobs undisturbed, and in processes that kill themselves at one point or another.

Run as `python -m tests.unit.trainer.solo.killed FOLDER BASE`; prints one line of JSON: by method the result's digest for
each point at which the first process died, 0 for the undisturbed job.  One process loads the libraries, all others are
its forks.  The points are a sample, with the first and the last; `--whole` takes every one.
"""

import gc
import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from services.trainer.settings import Method
from services.trainer.solo import libraries
from tests.harness.forks import KillAt, run_in_fork
from tests.harness.plugin_sampling import sample
from tests.unit.trainer.solo.small_jobs import Job, with_settings

# Two checkpoints, with best weights in both.
SETTINGS = {
    method: with_settings(method=method, dropout=0.1, max_steps=2, checkpoint_steps=1, evaluation_steps=1)
    for method in (Method.DORA, Method.QLORA, Method.FULL)
}
# The beginning of every step, and nine points of each checkpoint.
POINTS = 2 + 2 * 9


def in_fork(work: Callable[[], None]) -> int:
    """Run `work` in a fork; return its exit status, negative for a signal."""

    def run() -> None:
        # The pool of torch's threads is made anew after a fork, and not by several threads at once.
        torch.set_num_threads(1)
        work()

    status = run_in_fork(run)
    assert status <= 0, f"it failed: {status}"
    return status


def digest(folder: Path, base: Path, method: Method, found: Path) -> None:
    """Train to the end, from wherever the folder stands, and write down what came of it."""
    found.write_text(new_job(folder, base, method).finish())


def new_job(folder: Path, base: Path, method: Method) -> Job:
    """The job of the folder."""
    job = Job(folder, base, SETTINGS[method])
    job.validation = job.training[:2]
    return job


def killed_at(folder: Path, base: Path, method: Method, wanted: int) -> None:
    """Train until the write point of this number, counted from 1, and die there."""
    # Steps and writes go on side by side: whichever comes to the number dies of it.
    kill = KillAt(wanted)
    new_job(folder, base, method).finish(at=kill, each_step=kill)


def main(parent: Path, base: Path) -> None:
    """Kill, resume, compare."""
    libraries.prepare()
    torch.set_num_threads(1)
    # What libraries load and prepare on their first use is there for all forks.
    undisturbed = {method: new_job(parent / "undisturbed" / method, base, method).finish() for method in SETTINGS}
    # accelerate collects garbage before it trains: not that of the libraries, once more in each.
    gc.freeze()
    digests = {
        method.value: {0: undisturbed[method], **digests_of(parent / method, base, method)} for method in SETTINGS
    }
    sys.stdout.write(json.dumps(digests) + "\n")


def points(method: Method) -> list[int]:
    """Return the points at which a job of this method is killed: more of those of one method than of the others."""
    between = sample(range(2, POINTS), every=6 if method is Method.DORA else 9)
    return [1, *between, POINTS] if method is Method.DORA else between


def digests_of(parent: Path, base: Path, method: Method) -> dict[int, str]:
    """Return the digest of a job of this method for each point at which it was killed, and undisturbed under 0."""
    parent.mkdir()
    digests: dict[int, str] = {}
    for wanted in [*points(method), POINTS + 1]:
        folder, found = parent / str(wanted), parent / f"{wanted}.digest"
        died = in_fork(partial(killed_at, folder, base, method, wanted)) == -signal.SIGKILL
        assert died is (wanted <= POINTS), f"{method}: point {wanted} of {POINTS}"
        assert in_fork(partial(digest, folder, base, method, found)) == 0
        digests[wanted] = found.read_text()
    return digests


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
