"""Writes what must last, behind the worker's back: checkpoints, results, and the word that a job is held no more.

Invariants: tasks are done in the order in which they were given, so a job's last word comes after everything that is
written of it; and what is written is a snapshot that no later step touches.
"""

import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from services.chassis.errors import Failure
from services.trainer import checkpoints
from services.trainer.conduct import Refused, libraries
from services.trainer.job import Progress
from services.trainer.joint.held import Held
from services.trainer.peft_layout import CONFIG, WEIGHTS, config_file
from services.trainer.results import TEMPORARY, publish_result
from services.trainer.work import CHECKPOINTS, Line, Said


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checkpoint that is to be written: copies of tensors, and what stands beside them.

    Of those that are there the newest from before `sound_step` stays.
    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    progress: Progress
    sound_step: int = 0

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True)
class Result:
    """A job's adapter by PEFT's names, its configuration, and facts that belong to the version."""

    adapter: Mapping[str, Tensor]
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    progress: Progress

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        return sum(tensor.nbytes for tensor in self.adapter.values())


@dataclass(frozen=True, slots=True)
class LastWord:
    """Said when all before it is done: the job is held no more.  Without a line nothing is said."""

    line: Line | None
    size_bytes: int = 0


Task = Snapshot | Result | LastWord


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a task: a line to say (`ended`: the job's last), or why the job cannot go on."""

    held: Held
    line: Line | None = None
    ended: bool = False
    refusal: Refused | None = None


class Keeper:
    """The writer.  `kept` is called from its thread; `at` at every point of a write, for tests."""

    def __init__(
        self,
        kept: Callable[[Kept], None],
        *,
        most_bytes: int,
        at: checkpoints.WritePoint = lambda _: None,
    ) -> None:
        self._kept = kept
        self._most_bytes = most_bytes
        self._at = at
        self._tasks: deque[tuple[Held, Task]] = deque()
        self._changed = threading.Condition()
        self._waiting_bytes = 0
        self._closed = False

    def put(self, held: Held, task: Task) -> None:
        """Have a task done; wait while too many bytes wait already (one task always fits)."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._waiting_bytes or self._waiting_bytes + task.size_bytes <= self._most_bytes
            )
            self._tasks.append((held, task))
            self._waiting_bytes += task.size_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Let `run` return once all is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Do tasks until closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._closed)
                if not self._tasks:
                    return
                held, task = self._tasks.popleft()
            done = self._done(held, task)
            with self._changed:
                self._waiting_bytes -= task.size_bytes
                self._changed.notify_all()
            if done is not None:
                self._kept(done)

    def _done(self, held: Held, task: Task) -> Kept | None:
        if isinstance(task, LastWord):
            return Kept(held, task.line, ended=True)
        if held.gone:
            return None
        try:
            line = self._checkpoint(held, task) if isinstance(task, Snapshot) else self._publish(held, task)
        except checkpoints.LeaseLost:
            # Whoever holds the job now says all that is to be said.
            held.gone = True
            return Kept(held, ended=True)
        except FileNotFoundError:
            # Whoever cancelled the job had its folder removed before we heard of it.  Nobody waits for this word then;
            # if the folder went otherwise, the job is gone on with from what is left.
            held.gone = True
            return Kept(held, Line(Said.STOPPED, held.progress), ended=True)
        except Failure as failure:
            held.gone = True
            # What was begun would keep the disk full.
            sweep(held.folder)
            return Kept(held, refusal=Refused.by(failure))
        return Kept(held, line, ended=line.said is Said.DONE)

    def _checkpoint(self, held: Held, snapshot: Snapshot) -> Line:
        lease = checkpoints.lease_folder(held.folder / CHECKPOINTS, held.epoch)
        written = checkpoints.write(
            lease,
            snapshot.tensors,
            snapshot.progress,
            libraries(),
            state=snapshot.state,
            keep_before=snapshot.sound_step,
            at=self._at,
        )
        return Line(Said.CHECKPOINT, snapshot.progress, size_bytes=written.size_bytes)

    def _publish(self, held: Held, result: Result) -> Line:
        """Give the adapter its place, complete and durable, under the name `result`."""

        def save(into: Path) -> None:
            tensors = {name: tensor.contiguous() for name, tensor in sorted(result.adapter.items())}
            save_file(tensors, str(into / WEIGHTS), metadata={"format": "pt"})
            (into / CONFIG).write_text(config_file(result.config))

        def require() -> None:
            checkpoints.lease_folder(held.folder / CHECKPOINTS, held.epoch)

        publish_result(held.folder, save, result.facts, self._at, require=require)
        return Line(Said.DONE, result.progress)


def sweep(folder: Path) -> None:
    """Remove what killed writers left of a job; only the holder of its newest lease may call it."""
    checkpoints.sweep(folder / CHECKPOINTS)
    for left in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True)
