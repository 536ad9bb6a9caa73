"""Trains a job in processes that kill themselves at one write point after the other, then once undisturbed.

Run as `python -m tests.unit.trainer.killed FOLDER BASE`; prints one line of JSON: the adapter's
digest for each point at which the first process died.  One process loads torch, all others are its forks.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import peft
import torch
import transformers

from services.trainer.child import train
from services.trainer.settings import Settings
from services.trainer.work import RESULT
from tests.unit.trainer.tiny import make_job

SETTINGS = Settings(
    rank=4, alpha=8, dropout=0.1, max_steps=3, batch_rows=3, learning_rate=1e-2, checkpoint_steps=1, seed=5
)
LOADED = (peft, torch, transformers)


def in_fork(work: Callable[[], object]) -> int:
    """Run `work` in a fork; return the signal that ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def undisturbed(folder: Path) -> None:
    """Train to the end, from wherever the folder stands."""
    train(folder, lambda line: None, lambda: False)


def killed_at(folder: Path, wanted: int) -> None:
    """Train until the write point of this number, counted from 1, and die there."""
    seen: list[str] = []

    def at(point: str) -> None:
        seen.append(point)
        if len(seen) == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    train(folder, lambda line: None, lambda: False, at)


def digest(folder: Path) -> str:
    """SHA-256 of the adapter that the job made."""
    return hashlib.sha256((folder / RESULT / "adapter_model.safetensors").read_bytes()).hexdigest()


def main(parent: Path, base: Path) -> None:
    """Kill, resume, compare."""
    torch.set_num_threads(1)
    calm = make_job(parent / "calm", base, SETTINGS)
    assert in_fork(lambda: undisturbed(calm)) == 0
    digests = {"0": digest(calm)}
    for wanted in range(1, 1000):
        folder = make_job(parent / str(wanted), base, SETTINGS)
        if in_fork(partial(killed_at, folder, wanted)) != signal.SIGKILL:
            break
        assert in_fork(partial(undisturbed, folder)) == 0
        digests[str(wanted)] = digest(folder)
    sys.stdout.write(json.dumps(digests) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
