"""Jobs that no plan counts with for a while, and what people are told of them meanwhile.

Invariant: whoever waits outside the plan is told why, and until when where that is known, as those inside it are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.trainer.errands import Errands, Prerequisite, tried_again, unhindered
from services.trainer.job import Job, State
from services.trainer.scheduling.actions import Verdict
from services.trainer.scheduling.ranking import late


@dataclass(frozen=True, slots=True)
class _Rest:
    """Until when a job rests (Unix seconds), and why."""

    until: float
    why: str


class Aside:
    """Who they are: those that rest after something went wrong, and those that wait for an errand."""

    def __init__(self, needed: Prerequisite, errands: Errands) -> None:
        self._needed = needed
        self._errands = errands
        self._rests: dict[str, _Rest] = {}

    def rest(self, name: str, until: float, why: str) -> None:
        """Have the plan leave the job out until then (Unix seconds); ``why`` is a clause for its owner."""
        self._rests[name] = _Rest(until, why)

    def verdicts(self, jobs: Iterable[Job], outcomes: Mapping[str, State], now: float) -> dict[str, Verdict]:
        """Of these jobs those that the plan should leave out, by name; ``outcomes`` as `unhindered` has them."""
        known = {job.job: job for job in jobs}
        self._rests = {name: rest for name, rest in self._rests.items() if name in known}
        found = {name: self._why(job, outcomes, now) for name, job in known.items()}
        return {
            name: Verdict(name, 0, why + late(known[name].order.deadline or None, now, can_be_met=True))
            for name, why in found.items()
            if why
        }

    def _why(self, job: Job, outcomes: Mapping[str, State], now: float) -> str:
        """Why the job waits; empty for one that the plan should count with, and for one that does not wait at all."""
        if job.state is State.REGISTERING:
            return self._errands.registering(job, now)
        if job.state not in (State.QUEUED, State.RUNNING):
            return ""
        rest = self._rests.get(job.job)
        if rest is not None and rest.until > now:
            return f"{rest.why}; {tried_again(rest.until, now)}"
        # One that follows another has its place in line before its base is here.
        if self._needed.here(job) or not unhindered(job, outcomes):
            return ""
        return self._errands.fetching(job, now)
