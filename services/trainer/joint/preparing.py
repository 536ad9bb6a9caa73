"""Reads what a job needs before its first step, in a thread of its own, while others go on stepping.

Invariants: no more than a few jobs' rows and checkpoints wait in memory for the worker to take them in; and between
tenants of a class it goes in turn, so that a job waits for one of each other tenant's and not for a hundred at once.
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

_MOST_WAITING = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint as it was read."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    checkpoint: checkpoints.Checkpoint


@dataclass(frozen=True, slots=True)
class Ready:
    """A job that can join; or its last word, where it cannot; or neither when it is another process's by now."""

    held: Held
    encoded: Encoded | None = None
    found: Found | None = None
    word: Line | None = None


class Preparer:
    """Prepares jobs one after another.  `ready` is called from its thread."""

    def __init__(self, encoder: DatasetEncoder, ready: Callable[[Ready], None]) -> None:
        self._encoder = encoder
        self._ready = ready
        self._waiting: list[Held] = []
        # When each tenant's last turn was, counted in jobs.
        self._turns: dict[str, int] = {}
        self._changed = threading.Condition()
        self._taken = threading.Semaphore(_MOST_WAITING)
        self._closed = False

    def put(self, held: Held) -> None:
        """Have a job prepared."""
        with self._changed:
            self._waiting.append(held)
            self._changed.notify_all()

    def taken(self) -> None:
        """One that was ready has been taken in."""
        self._taken.release()

    def close(self) -> None:
        """Let `run` return; what still waits is not prepared."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._taken.release()

    def run(self) -> None:
        """Prepare jobs until closed; the encoding process is started, used and ended here."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closed)
                    if self._closed:
                        return
                    held = self._next()
                self._taken.acquire()
                if self._closed:
                    return
                self._ready(self._prepared(held))
        finally:
            self._encoder.close()

    def _next(self) -> Held:
        """Take out whose turn it is: first who is only to be let go of, then by class, then the tenant's that waited."""
        held = min(
            self._waiting,
            key=lambda one: (not (one.gone or one.stopping), -one.priority, self._turns.get(one.tenant, 0)),
        )
        self._waiting.remove(held)
        self._turns[held.tenant] = 1 + max(self._turns.values(), default=0)
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
