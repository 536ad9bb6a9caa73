"""What a plan asks for, and what the state is once that has been done.

Invariant: every action names what it was decided on (a job's epoch), so that one which comes too
late can be told; and doing twice what a plan asks for is doing it once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.trainer.scheduling.state import Job, Outcome, Phase, Process, State, Turn


@dataclass(frozen=True, slots=True)
class Start:
    """Start the job, a process on each of ``nodes`` (a joint one joins, or brings up, its group's process there).

    Only if its row still has ``epoch``.  It computes once its process is told `Go`.
    """

    job: str
    nodes: tuple[str, ...]
    epoch: int


@dataclass(frozen=True, slots=True)
class Preempt:
    """Stop the job at its next step boundary, after a checkpoint, and queue it again; ``beneficiary`` needs the place.

    ``why`` is a sentence for the job's owner and names nobody else's job.
    """

    job: str
    beneficiary: str
    why: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Drop:
    """The job can never start: what it waits for did not succeed."""

    job: str
    why: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """The job can never start: no machine here could hold it."""

    job: str
    why: str


@dataclass(frozen=True, slots=True)
class Go:
    """Let the process compute; it keeps the cores for at least a quantum."""

    process: Process


@dataclass(frozen=True, slots=True)
class Hold:
    """Let the process rest at its next step boundary.  It stays in memory, and still obeys (checkpoint, stop)."""

    process: Process


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a job's owner is told.

    ``position`` counts from 1 among the jobs in line; it is 0 for one that runs already or is not in line yet.
    ``why`` says what a waiting job waits for; empty for one that computes.  The estimates, seconds since 1970, are
    None where nothing was measured to go by.
    """

    job: str
    position: int
    why: str
    estimated_start: float | None = None
    estimated_finish: float | None = None


Action = Start | Preempt | Drop | Unfit | Go | Hold
Planned = Action | Verdict


def applied(state: State, actions: Iterable[Planned], now: float) -> State:
    """The state once all ``actions`` have been carried out, at once; what they ask to stop is stopping."""
    jobs = {job.job: job for job in state.jobs}
    turns = {turn.process: turn for turn in state.turns}
    for action in actions:
        match action:
            case Start(name, nodes):
                jobs[name] = _started(jobs[name], nodes, state.replica, now)
            case Preempt(name):
                jobs[name] = replace(jobs[name], phase=Phase.STOPPING, since=now)
            case Drop(name) | Unfit(name):
                del jobs[name]
                jobs = {other: _told(job, name) for other, job in jobs.items()}
            case Go(process) | Hold(process):
                turns[process] = Turn(process, isinstance(action, Go), now)
            case Verdict():
                pass
    return replace(state, jobs=tuple(jobs.values()), turns=tuple(turns.values()))


def _told(job: Job, failed: str) -> Job:
    """The job, knowing that one which it may wait for has failed."""
    if all(dependency.job != failed for dependency in job.after):
        return job
    after = (replace(it, outcome=Outcome.FAILED) if it.job == failed else it for it in job.after)
    return replace(job, after=tuple(after))


def _started(job: Job, nodes: tuple[str, ...], replica: str, now: float) -> Job:
    return replace(job, phase=Phase.RUNNING, since=now, nodes=nodes, replica=replica, epoch=job.epoch + 1)
