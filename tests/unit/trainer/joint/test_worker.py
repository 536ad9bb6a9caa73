"""A worker's loop around its jobs."""

import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from services.chassis.waiting import Waiting
from services.trainer.conduct import Manners
from services.trainer.joint.worker import _train
from services.trainer.work import Command, Do


class Spent:
    """Jobs that are there and may not train; it ends when it is told to."""

    def __init__(self, looked: threading.Event) -> None:
        self.ended, self.busy = False, True
        self.steps = 0
        self._looked = looked

    def take(self, _: Command) -> None:
        self.ended = True

    def step(self) -> bool:
        self.steps += 1
        self._looked.set()
        return False

    def tell_usage(self) -> None:
        pass


def test_a_worker_whose_jobs_may_not_train_waits_for_what_comes(tmp_path: Path) -> None:
    looked = threading.Event()
    group: Any = Spent(looked)
    inbox: SimpleQueue[Command] = SimpleQueue()
    waiting = Waiting(1)
    try:
        training = threading.Thread(target=_train, args=(group, inbox, Manners(tmp_path), waiting))
        training.start()
        looked.wait()
        threading.Timer(0.1, inbox.put, [Command(Do.END)]).start()
        training.join()
    finally:
        waiting.close()
    # Once more when it was told to end, and after every second of waiting.
    assert group.steps < 10
