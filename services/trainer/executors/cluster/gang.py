"""A job of several processes on several machines: Ray Train starts them together, here they are steered as one.

An actor for each such job.  Ray Train's worker on each machine starts our own process beside it, which trains (`rank`);
so signals, limits and priorities are those of a job of one process.  Ray Train's TorchTrainer would open its process
group in Ray's worker, where none of these reach; its base class does all the rest of what it does.
Invariant: when one of the processes ends without a word, all do, and the job is lost once.
"""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.trainer.executors.cluster.node import NEWS, Told
from services.trainer.executors.cluster.rank import WISHES, WORDS, train_rank
from services.trainer.executors.executor import Lost, News, Training
from services.trainer.reports import Report
from services.trainer.scheduling.state import Process, Turn
from services.trainer.scheduling.usage import solo_charge
from services.trainer.work import LAST, Line, Said

_WISH_SECONDS = 5.0
_CHARGE_SECONDS = 1.0
# Ray wants to be asked for something; what runs where is not its decision.
_HARDLY_A_CORE = 0.001


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the processes are to do: compute or rest, or write a checkpoint and end."""

    number: int = 0
    computing: bool = False
    stopping: bool = False


def groups(processes: int) -> dict[str, int]:
    """The gang's concurrency groups."""
    return {NEWS: 1, WISHES: processes, WORDS: 1}


class GangHost:
    """One job, whose ``training.nodes`` are Ray's names of machines, one for each process; ``cores`` is what these have."""

    def __init__(self, training: Training, cores: Sequence[int]) -> None:
        self._training = training
        self._cores = cores
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._wishes = Wishes()
        self._since = self._charged = time.time()
        self._number = 0
        self._said_last = False
        self._over = threading.Event()

    # What the trainer calls, as it does a NodeHost.

    def start(self, training: Training) -> Told:
        """Begin; the processes rest until `go`."""
        import ray

        here = ray.get_runtime_context().current_actor
        threading.Thread(target=self._run, args=(here,), name="gang", daemon=True).start()
        return self._told([])

    def stop(self, job: str) -> Told:
        """Ask for a checkpoint and an end."""
        self._wish(computing=True, stopping=True)
        return self._told([])

    def go(self, process: Process) -> Told:
        """Let all compute."""
        self._wish(computing=True)
        return self._told([])

    def hold(self, process: Process) -> Told:
        """Let all rest, but when they are to end."""
        self._wish(computing=self._wishes.stopping)
        return self._told([])

    def end(self, within_seconds: float) -> None:
        """Stop, and wait for the end."""
        self._wish(computing=True, stopping=True)
        self._over.wait(within_seconds)

    def news(self, wait_seconds: float) -> Told:
        """As NodeHost.news."""
        over = self._over.is_set()
        self._charge()
        heard: list[News] = []
        with suppress(queue.Empty):
            heard.append(self._news.get(timeout=0.001 if over else wait_seconds))
            while True:
                heard.append(self._news.get_nowait())
        return self._told(heard, ended=over)

    # What the processes call.

    def wishes(self, seen: int) -> Wishes:
        """What is wanted, once it is something else than the wishes of that number; or after a while."""
        with self._changed:
            self._changed.wait_for(lambda: self._wishes.number != seen, _WISH_SECONDS)
            return self._wishes

    def say(self, raw: bytes) -> None:
        """Take in a line of the first process."""
        line = Line.decode(raw)
        if line is None or self._said_last or line.said in (Said.READY, Said.USAGE):
            return
        self._said_last = line.said in LAST
        training = self._training
        self._news.put(Report(training.tenant, training.job, training.epoch, line))

    def _wish(self, *, computing: bool, stopping: bool = False) -> None:
        with self._changed:
            before = self._wishes
            self._charge(0.0)
            self._wishes = Wishes(before.number + 1, computing, before.stopping or stopping)
            if computing != before.computing:
                self._since = time.time()
            self._changed.notify_all()

    def _charge(self, least_seconds: float = _CHARGE_SECONDS) -> None:
        """Tell what the processes used of their machines since the last time, once that is worth telling."""
        now = time.time()
        seconds, training = now - self._charged, self._training
        if self._wishes.computing and seconds < least_seconds:
            return
        self._charged = now
        if self._wishes.computing and not self._said_last:
            share = sum(solo_charge(seconds, training.work.threads, cores) for cores in self._cores)
            self._news.put(Report(training.tenant, training.job, training.epoch, Line(Said.USAGE), share))

    def _told(self, heard: Sequence[News], *, ended: bool = False) -> Told:
        self._number += 1
        wishes = self._wishes
        turns = () if self._said_last else (Turn(self._training.process, wishes.computing, self._since),)
        return Told(tuple(heard), turns, self._number, ended)

    def _run(self, here: Any) -> None:
        """Have Ray Train run the processes to their end."""
        from ray.train import TrainingFailedError

        training, how = self._training, "Ray Train ended"
        try:
            _trainer(training, here).fit()
            how = "its processes ended without a word"
        except TrainingFailedError as error:
            how = str(error).strip().rpartition("\n")[2]
        finally:
            if not self._said_last:
                self._said_last = True
                self._news.put(Lost(training.tenant, training.job, training.epoch, how))
            self._over.set()


def _trainer(training: Training, gang: Any) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    config: Mapping[str, Any] = {"gang": gang, "training": training}
    return DataParallelTrainer(
        train_rank,
        train_loop_config=dict(config),
        scaling_config=ScalingConfig(
            num_workers=training.processes,
            resources_per_worker={"CPU": _HARDLY_A_CORE},
            label_selector=[{"ray.io/node-id": node} for node in training.nodes],
        ),
        run_config=RunConfig(
            name=f"{training.job}-{training.epoch}",
            # Ray Train's notes about the run; checkpoints are ours.
            storage_path=str(Path(training.folder) / "ray"),
            # Whoever plans decides where it goes on.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )
