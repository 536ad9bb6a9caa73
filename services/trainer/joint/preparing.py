"""Reads what a job needs before its first step, in a thread of its own, while others go on stepping.

The worker takes in what is ready between two of its steps, which may be seconds apart: as many jobs as memory has room
for are ready by then, since a job that has not joined is not among those that the worker chooses the shortest of.
Invariants: what waits in memory to be taken in is bounded in bytes, but for one job; a higher class is read first; and
between tenants of a class it goes in turn, by their weights, so that a job waits for few of each other tenant's and not
for a hundred at once.
"""

import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from services.chassis.errors import Failure
from services.chassis.files import disk_full_named
from services.trainer import checkpoints, material
from services.trainer.conduct import Refused, lost
from services.trainer.joint.encoder import DatasetEncoder, Encoded
from services.trainer.joint.held import Held
from services.trainer.joint.keeping import sweep
from services.trainer.joint.mismatching import pairing_of
from services.trainer.work import CHECKPOINTS, Line, Work


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint as it was read."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    checkpoint: checkpoints.Checkpoint

    @property
    def size_bytes(self) -> int:
        """What its tensors take in memory."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True)
class Ready:
    """A job that can join; or its last word, where it cannot; or neither when it is another process's by now."""

    held: Held
    encoded: Encoded | None = None
    found: Found | None = None
    word: Line | None = None

    @property
    def size_bytes(self) -> int:
        """What its rows and its checkpoint take in memory; rows that other jobs hold, too, are counted all the same."""
        rows = self.encoded.splits.size_bytes if self.encoded else 0
        return rows + (self.found.size_bytes if self.found else 0)


class Preparer:
    """Prepares jobs one after another.  `ready` is called from its thread.

    None is begun while what was `ready` and is not `taken` holds `most_bytes` or more.
    """

    def __init__(self, encoder: DatasetEncoder, ready: Callable[[Ready], None], *, most_bytes: int) -> None:
        self._encoder = encoder
        self._ready = ready
        self._most_bytes = most_bytes
        self._ready_bytes = 0
        self._waiting: list[Held] = []
        # Each tenant's jobs that were read, over its weight, and where the turns have come to (stride scheduling): who was
        # away for long is owed nothing.
        self._turns: dict[str, float] = {}
        self._turn = 0.0
        self._weights: Mapping[str, float] = {}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, held: Held) -> None:
        """Have a job prepared."""
        with self._changed:
            self._waiting.append(held)
            self._changed.notify_all()

    def share(self, weights: Mapping[str, float]) -> None:
        """Go by these weights of tenants from now on; who is not listed has weight 1."""
        with self._changed:
            self._weights = dict(weights)

    def taken(self, ready: Ready) -> None:
        """One that was ready has been taken in."""
        with self._changed:
            self._ready_bytes -= ready.size_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Let `run` return; what still waits is not prepared."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Prepare jobs until closed; the encoding process is started, used and ended here."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: (self._waiting and self._has_room) or self._closed)
                    if self._closed:
                        return
                    held = self._next()
                ready = self._prepared(held)
                with self._changed:
                    self._ready_bytes += ready.size_bytes
                self._ready(ready)
        finally:
            self._encoder.close()

    @property
    def _has_room(self) -> bool:
        return not self._ready_bytes or self._ready_bytes < self._most_bytes

    def _next(self) -> Held:
        """Take out whose turn it is: first who is only to be let go of, then by class, then the tenant that had least."""

        def turn(one: Held) -> float:
            return max(self._turns.get(one.tenant, 0.0), self._turn)

        held = min(self._waiting, key=lambda one: (not (one.gone or one.stopping), -one.priority, turn(one)))
        self._waiting.remove(held)
        # In a class above others tenants may be ahead of where the turns of the others are.
        behind = min(turn(one) for one in [held, *self._waiting])
        self._turns[held.tenant] = turn(held) + 1 / self._weights.get(held.tenant, 1.0)
        self._turn = behind
        return held

    def _prepared(self, held: Held) -> Ready:
        root = held.folder / CHECKPOINTS
        if held.gone:
            return Ready(held)
        try:
            with disk_full_named("the training jobs"):
                work = Work.read(held.folder)
                held.work = work
                checkpoints.lease_folder(root, held.epoch)
                sweep(held.folder)
                found = checkpoints.newest(root)
                if found is not None:
                    held.progress = found.progress
                if held.stopping:
                    return Ready(held)
                encoded = self._encoder.encode(held.folder, material.size_bytes(work))
            loaded = Found(checkpoints.load_tensors(found), checkpoints.load_state(found), found) if found else None
            if loaded is not None:
                # References that it has, or some of them, are of these mismatches.
                splits = encoded.splits.paired(pairing_of(loaded.state), work.settings.max_row_tokens)
                encoded = replace(encoded, splits=splits)
        except checkpoints.LeaseLost:
            held.gone = True
            return Ready(held)
        except Refused as refusal:
            return Ready(held, word=refusal.line())
        except Failure as failure:
            return Ready(held, word=Refused.by(failure).line())
        except (KeyError, TypeError, ValueError) as error:
            return Ready(held, word=Refused("SETTINGS_UNFIT", f"the job's order cannot be read: {error}").line())
        except OSError as error:
            return Ready(held, word=_unread(error))
        return Ready(held, encoded, loaded)


def _unread(error: OSError) -> Line:
    """The last word of a job whose files were not read: a file that is gone ends it, all else is tried another time."""
    if isinstance(error, FileNotFoundError):
        return Refused("DATASET_NOT_FOUND", f"the job's files cannot be read: {error.strerror}").line()
    # Too many open files, a disk or a share that does not answer: where, the operator should know.
    traceback.print_exception(error)
    return lost(error)
