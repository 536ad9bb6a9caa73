"""Which job trains next, and what becomes of one whose process has ended.

Pure functions of jobs: no clock, no database, no process.  The runner applies the moves
inside a transaction that reads the job anew, so whatever a person asked for meanwhile counts.
Invariant: at most one job has a training process, and of the jobs whose base is on this machine
that one starts which was queued first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.chassis.errors import Failure, Reason
from services.trainer.job import Job, Move, State
from services.trainer.work import Exit


@dataclass(frozen=True, slots=True)
class Train:
    """Start, or go on with, this job's training."""

    job: Job


@dataclass(frozen=True, slots=True)
class Register:
    """Training is done; bring the result to the registry."""

    job: Job


@dataclass(frozen=True, slots=True)
class Settle:
    """No process holds this job any more; give it the state that was asked for."""

    job: Job


@dataclass(frozen=True, slots=True)
class Ended:
    """How a training process ended.  `reason` and `message` are its own when it refused the job."""

    status: int
    reason: str = ""
    message: str = ""

    @property
    def how(self) -> str:
        """The status for people."""
        return f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"


@dataclass(frozen=True, slots=True)
class Fetch:
    """The job's base is not on this machine yet; bring it here, while others train."""

    job: Job


Action = Train | Register | Settle | Fetch

# Bases that are fetched at the same time; more would only share the same wire and disk.
_FETCHES = 2

_SETTLED = {State.PAUSING: State.PAUSED, State.CANCELLING: State.CANCELLED}


def plan(jobs: Sequence[Job], here: Callable[[Job], bool] = lambda _: True) -> list[Action]:
    """Return what to do, in order, while no training process runs; `here` says whose base is on this machine.

    A job that is still `running` lost its process with an earlier trainer: it goes on first,
    since it holds its place in the queue already.  One whose base is still to come holds nobody up.
    """
    settled: list[Action] = [Settle(job) for job in jobs if job.state in _SETTLED]
    registering: list[Action] = [Register(job) for job in jobs if job.state is State.REGISTERING]
    trainable = [job for job in jobs if job.state in (State.RUNNING, State.QUEUED)]
    trainable.sort(key=lambda job: (job.state is not State.RUNNING, job.queue_time, job.job))
    fetching = [Fetch(job) for job in trainable if not here(job)][:_FETCHES]
    ready = [Train(job) for job in trainable if here(job)][:1]
    return [*settled, *registering, *fetching, *ready]


def begin(job: Job) -> Move | None:
    """The move with which a process is started for `job`; None when it must not be, by now."""
    attempt = {"attempts": job.attempts + 1}
    if job.state is State.QUEUED:
        return Move(State.RUNNING, "training", attempt)
    if job.state is State.RUNNING:
        return Move(State.RUNNING, "training again", attempt)
    return None


def settle(job: Job) -> Move | None:
    """The move that was asked for while a process ran, now that none does; None when nothing was."""
    wanted = _SETTLED.get(job.state)
    return Move(wanted, f"{wanted} on request") if wanted else None


def refuse(job: Job, reason: str, message: str) -> Move | None:
    """The move of a job that cannot go on; a cancellation that came first counts.

    A full disk is no fault of the job: what was trained is in its last checkpoint, so it waits for a person.
    """
    if job.state.finished:
        return None
    if job.state is State.CANCELLING:
        return settle(job)
    if reason == Reason.DISK_FULL.name:
        paused = Move(State.PAUSED, f"{message} The job was paused; resume it when there is space.")
        return None if job.state is State.PAUSED else paused
    return Move(State.FAILED, message, {"error_reason": reason, "error_message": message})


def conclude(job: Job, ended: Ended, max_crashes: int) -> Move | None:
    """The move after a process ended; None leaves the job as it is, to be gone on with."""
    if job.state is State.CANCELLING:
        return settle(job)
    if ended.status == Exit.DONE:
        return Move(State.REGISTERING, "trained; registering the version")
    if ended.reason:
        return refuse(job, ended.reason, ended.message)
    if job.state is State.PAUSING:
        # Also after a crash: the last checkpoint is what resuming goes on from.
        return settle(job)
    if ended.status == Exit.STOPPED:
        return None
    crashes = job.crashes + 1
    if crashes >= max_crashes:
        lost = Failure(Reason.PROCESS_LOST, count=crashes, status=ended.how)
        return refuse(job, lost.reason.name, lost.sentence)
    text = f"the training process was lost ({ended.how}); it starts again from its last checkpoint"
    return Move(State.RUNNING, text, {"crashes": crashes})
