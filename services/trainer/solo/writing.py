"""Writes a solo job's checkpoints behind its steps, and keeps what is said of it in order.

Invariants: one checkpoint is written at a time, of tensors that no step touches; it is said when it is durable, and what
happened meanwhile is said after it, so that the order is that of a job that waited for its disk; and what a write failed
with is raised to whoever trains at its next step boundary.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from services.chassis.errors import Failure
from services.trainer import checkpoints
from services.trainer.job import Progress
from services.trainer.solo.order import Checkpointed, Hooks, Report, SoloOrder


class Writer:
    """The thread that writes.  All methods are called from the thread that trains; at the end of the block all is done."""

    def __init__(self, order: SoloOrder, hooks: Hooks) -> None:
        self._order = order
        self._hooks = hooks
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None
        # Held by whoever says anything.
        self._saying = threading.Lock()
        # What is to be said once the checkpoint under way is; None while there is none.
        self._held_back: list[Report] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # Whatever ends the job, the checkpoint that was begun is what it goes on from.
        self._thread.shutdown(wait=True)

    def say(self, report: Report) -> None:
        """Report it, after all that was before it."""
        with self._saying:
            if self._held_back is None:
                self._hooks.report(report)
            else:
                self._held_back.append(report)

    def put(
        self, tensors: Mapping[str, Tensor], noted: Mapping[str, Any], progress: Progress, sound_step: int = 0
    ) -> None:
        """Have a checkpoint written; the tensors are the writer's from now on.  Nothing else may be under way.

        Of those that are there the newest from before ``sound_step`` stays.
        """
        assert self._writing is None, "the checkpoint before is waited for first"
        with self._saying:
            self._held_back = []
        self._writing = self._thread.submit(self._write, tensors, noted, progress, sound_step)

    def look(self) -> None:
        """Raise what the checkpoint under way has failed with, if it has: DISK_FULL, LeaseLost and what else there is."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is under way.  Raises as `look`."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(
        self, tensors: Mapping[str, Tensor], noted: Mapping[str, Any], progress: Progress, sound_step: int
    ) -> None:
        order, at = self._order, self._hooks.at
        try:
            written = checkpoints.write(
                order.into, tensors, progress, order.libraries, state=noted, keep_before=sound_step, at=at
            )
        except Failure:
            # What was begun would keep the disk full.
            checkpoints.sweep(order.into)
            raise
        with self._saying:
            self._hooks.report(Checkpointed(progress, written.size_bytes))
            for report in self._held_back or ():
                self._hooks.report(report)
            self._held_back = None
