"""What is counted of training, for whoever watches the deployment: `alerts.yaml` beside this file wakes people by it.

Invariant: labels are states, kinds of training, outcomes and the catalogue's reasons, whatever tenants do and however
many jobs there are.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.chassis.errors import Reason
from services.chassis.telemetry import Telemetry
from services.trainer.job import Job, State
from services.trainer.reports import Report
from services.trainer.scheduling import state as scheduling
from services.trainer.scheduling.room import Room
from services.trainer.work import Line, Said

_OTHER = "other"
# From a job that starts at once to one that waits for half a week.
_WAITS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 84 * 3600)
# From a few short rows to a full batch of long ones through all parameters.
_STEPS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


@dataclass(slots=True)
class _Resident:
    """A job in a process of ours: how it trains, and what its last lines told of."""

    kind: str
    tokens: int
    # Bytes of its whole process, and which step of all these were told with; 0 before its first.
    memory_bytes: int = 0
    told: int = 0


class Meter:
    """Metrics of one trainer.  Called from the event loop alone."""

    def __init__(self, telemetry: Telemetry) -> None:
        gauge, counter, histogram = telemetry.gauge, telemetry.counter, telemetry.histogram
        self._jobs = gauge("trainer_jobs", "Jobs that have not ended, of all trainers over one table.", ("state",))
        about = "Jobs that ended here, without members that a sweep ended; of those that failed, why."
        self._ended = counter("trainer_jobs_ended", about, ("state", "reason"))
        self._waits = histogram("trainer_queue_wait_seconds", "From a job's place in line to its start.", (), _WAITS)
        self._queued = gauge("trainer_queue_oldest_seconds", "How long the job that waits longest has waited.")
        about = "Since the last step of the trained job that waits longest for the registry."
        self._registering = gauge("trainer_registering_oldest_seconds", about)
        about = "Most processes that one unfinished job has lost since its last checkpoint."
        self._crashes = gauge("trainer_crashes_in_a_row", about)
        self._lost = counter("trainer_jobs_lost", "Jobs whose process ended without a word about them.")
        self._preemptions = counter("trainer_preemptions", "Jobs that were told to give way to another.")
        self._steps = counter("trainer_steps", "Optimizer steps, those done again after a kill too.", ("kind",))
        about = "Seconds of machine of an optimizer step, its evaluations not counted."
        self._step_seconds = histogram("trainer_step_seconds", about, ("kind",), _STEPS)
        about = "Tokens that went through training, those of steps done again too."
        self._tokens = counter("trainer_trained_tokens", about, ("kind",))
        about = "Seconds of machine in forward, backward and optimizer: its rate is the utilisation."
        self._compute = counter("trainer_compute_seconds", about, ("kind",))
        self._checkpoints = counter("trainer_checkpoints", "Checkpoints, by whether the disk took them.", ("outcome",))
        self._checkpoint_bytes = counter("trainer_checkpoint_bytes", "Bytes of checkpoints that were written.")
        about = "Memory set aside, by arithmetic, for jobs and bases in processes of this trainer."
        self._reserved_bytes = gauge("trainer_reserved_bytes", about)
        about = (
            "Resident memory of this trainer's training processes, measured; of one job's several the first's alone."
        )
        self._resident_bytes = gauge("trainer_resident_bytes", about)
        self._memory_bytes = gauge("trainer_memory_bytes", "Memory that this trainer's machines give to training.")
        self._held: dict[str, _Resident] = {}
        # Steps that were told of.
        self._told = 0
        # Series that are there from the start: an alert must not miss the first of a kind.
        for outcome in ("written", "failed"):
            self._checkpoints.labels(outcome)
        for kind in ("joint", "solo"):
            for metric in (self._steps, self._tokens, self._compute):
                metric.labels(kind)

    def see(self, jobs: Sequence[Job], state: scheduling.State, now: float) -> None:
        """How the queue stands: all jobs that have not ended, and the state that the plan was made of."""
        counted = Counter(job.state for job in jobs)
        for each in State:
            if not each.finished:
                self._jobs.labels(each.value).set(counted[each])
        self._queued.set(_longest((job.queue_time.timestamp() for job in jobs if job.state is State.QUEUED), now))
        trained = [job for job in jobs if job.state is State.REGISTERING]
        since = (job.measures.stepped_at or job.queue_time.timestamp() for job in trained)
        self._registering.set(_longest(since, now))
        self._crashes.set(max((job.crashes for job in jobs), default=0))
        room = Room(state)
        here = [room.now[node.node] for node in room.mine]
        self._memory_bytes.set(sum(ledger.memory_bytes for ledger in here))
        self._reserved_bytes.set(sum(ledger.memory_bytes - ledger.free for ledger in here))
        self._resident_bytes.set(self._measured(state.jobs))

    def started(self, job: Job, now: float) -> None:
        """The job, as it was planned with, is in a process of ours now."""
        kind = "joint" if job.order.settings.method.joint else "solo"
        self._held[job.job] = _Resident(kind, job.progress.trained_tokens)
        queued = job.queue_time.timestamp()
        # One that gave way keeps its place in line, and has trained since it took it.
        if job.state is State.QUEUED and job.measures.stepped_at < queued:
            self._waits.observe(max(0.0, now - queued))

    def left(self, job: str) -> None:
        """No process of ours holds the job."""
        self._held.pop(job, None)

    def hear(self, report: Report) -> None:
        """What a process said of a job."""
        held, line = self._held.get(report.job), report.line
        match line.said:
            case Said.STARTED if held is not None:
                held.tokens = line.progress.trained_tokens
            case Said.STEP if held is not None:
                self._step(held, line)
            case Said.USAGE if held is not None:
                self._compute.labels(held.kind).inc(report.seconds)
            # One that is only told again has no size.
            case Said.CHECKPOINT if line.size_bytes:
                self._checkpoints.labels("written").inc()
                self._checkpoint_bytes.inc(line.size_bytes)
            case Said.REFUSED if line.reason == Reason.DISK_FULL.name:
                self._checkpoints.labels("failed").inc()
            case _:
                pass

    def lost(self) -> None:
        """A job's process ended without a word about it."""
        self._lost.inc()

    def preempted(self) -> None:
        """A job was told to give way."""
        self._preemptions.inc()

    def ended(self, job: Job) -> None:
        """The job has ended."""
        reason = job.error_reason if job.state is State.FAILED else ""
        known = reason if not reason or reason in Reason.__members__ else _OTHER
        self._ended.labels(job.state.value, known).inc()

    def _measured(self, jobs: Iterable[scheduling.Job]) -> int:
        """Bytes of all processes, of each what was told last by any of its jobs."""
        newest: dict[scheduling.Process, tuple[int, int]] = {}
        for job in jobs:
            if held := self._held.get(job.job):
                for process in scheduling.processes_of(job):
                    newest[process] = max(newest.get(process, (0, 0)), (held.told, held.memory_bytes))
        return sum(memory_bytes for _, memory_bytes in newest.values())

    def _step(self, held: _Resident, line: Line) -> None:
        self._told += 1
        held.told, held.memory_bytes = self._told, line.memory_bytes
        tokens = line.progress.trained_tokens - held.tokens
        if tokens <= 0:
            # Told again, and known.
            return
        held.tokens = line.progress.trained_tokens
        self._steps.labels(held.kind).inc()
        self._tokens.labels(held.kind).inc(tokens)
        if line.tokens_per_second > 0:
            self._step_seconds.labels(held.kind).observe(tokens / line.tokens_per_second)


def _longest(moments: Iterable[float], now: float) -> float:
    return max(0.0, max((now - moment for moment in moments), default=0.0))
