"""Trains solo jobs in processes that kill themselves at one write point after the other, then once undisturbed.

Run as `python -m tests.unit.trainer.solo.killed FOLDER BASE`; prints one line of JSON: the result's digest for
each point at which the first process died.  One process loads the libraries, all others are its forks.
"""

import gc
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from services.trainer.settings import Method
from services.trainer.solo import libraries
from tests.unit.trainer.solo.small_jobs import Job, with_settings

# Two checkpoints, with best weights in both.
SETTINGS = with_settings(method=Method.DORA, dropout=0.1, max_steps=2, checkpoint_steps=1, evaluation_steps=1)


def in_fork(work: Callable[[], object]) -> int:
    """Run `work` in a fork; return the signal that ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def digest(folder: Path, base: Path, found: Path) -> None:
    """Train to the end, from wherever the folder stands, and write down what came of it."""
    found.write_text(new_job(folder, base).finish())


def new_job(folder: Path, base: Path) -> Job:
    """The job of the folder."""
    job = Job(folder, base, SETTINGS)
    job.validation = job.training[:2]
    return job


def killed_at(folder: Path, base: Path, wanted: int) -> None:
    """Train until the write point of this number, counted from 1, and die there."""
    # Steps and writes go on side by side: whichever comes to the number dies of it.
    passed = itertools.count(1)

    def at(_: str) -> None:
        if next(passed) == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    new_job(folder, base).finish(at=at, each_step=lambda: at("a step begins"))


def main(parent: Path, base: Path) -> None:
    """Kill, resume, compare."""
    libraries.prepare()
    torch.set_num_threads(1)
    # What libraries load and prepare on their first use is there for all forks.
    new_job(parent / "first", base).finish()
    # accelerate collects garbage before it trains: not that of the libraries, once more in each.
    gc.freeze()
    digests: dict[str, Any] = {}
    for wanted in range(1000):
        folder, found = parent / str(wanted), parent / f"{wanted}.digest"
        if wanted and in_fork(partial(killed_at, folder, base, wanted)) != signal.SIGKILL:
            break
        assert in_fork(partial(digest, folder, base, found)) == 0
        digests[str(wanted)] = found.read_text()
    sys.stdout.write(json.dumps(digests) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
