"""Which job trains next.  A pure function of the jobs that have not ended: no clock, no database, no process.

Invariant: at most one job has a training process, and jobs start in the order in which they
were queued.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.trainer.job import Job, State


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
    state: State


Action = Train | Register | Settle

_SETTLED = {State.PAUSING: State.PAUSED, State.CANCELLING: State.CANCELLED}


def plan(jobs: Sequence[Job]) -> list[Action]:
    """Return what to do, in order, while no training process runs.

    A job that is still `running` lost its process with an earlier trainer: it goes on first,
    since it holds its place in the queue already.
    """
    settled: list[Action] = [Settle(job, _SETTLED[job.state]) for job in jobs if job.state in _SETTLED]
    registering: list[Action] = [Register(job) for job in jobs if job.state is State.REGISTERING]
    trainable = [job for job in jobs if job.state in (State.RUNNING, State.QUEUED)]
    trainable.sort(key=lambda job: (job.state is not State.RUNNING, job.queue_time, job.job))
    return [*settled, *registering, *(Train(job) for job in trainable[:1])]
