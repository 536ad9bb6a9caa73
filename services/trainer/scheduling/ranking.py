"""Whose turn it is: the order of the jobs that wait.

First the class, then what the tenant has used for its weight, then age.  Three things temper that:
- Each job that a tenant has just started, or that stands before its others in line, counts as if it had used
  `entry_penalty_seconds` already, so that a hundred jobs at once are a hundred turns and not one.
- A class of which a tenant gets nothing is lifted: its oldest job by one class for each `ageing_seconds` in which
  the tenant had no job of this class, or of a lower one, started or running.  One job at a time: whoever waits with
  a thousand overtakes nobody for that.
- A deadline puts a job before the others of its class once there is no time to lose, and no earlier.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from services.trainer.scheduling.state import Job, Phase, State
from services.trainer.scheduling.usage import decayed


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job in line, with the class that its place has by now and whether its deadline presses."""

    job: Job
    level: int
    urgent: bool


class Shares:
    """What each tenant has used for its weight at one moment, in seconds of machine."""

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self._now = now
        self._used: dict[str, float] = {}
        active = {job.tenant for job in state.jobs}
        weights = sum(state.tenant(name).weight for name in active)
        # Of all who want something: who lies above it is over its share.
        self.fair = sum(self.used(name) * state.tenant(name).weight for name in sorted(active)) / (weights or 1.0)

    def used(self, name: str) -> float:
        """Decayed seconds of the tenant for each unit of its weight."""
        if name not in self._used:
            tenant = self._state.tenant(name)
            self._used[name] = decayed(tenant.usage, self._now, self._state.policy.half_life_seconds) / tenant.weight
        return self._used[name]


def lifted(waited_seconds: float, ageing_seconds: float) -> int:
    """Classes by which a wait lifts."""
    return max(0, int(waited_seconds // ageing_seconds))


def pressing(state: State, now: float) -> frozenset[str]:
    """Jobs whose deadlines leave no time to lose, by name.

    In each class, by deadline: the slack of a job is what is left to its deadline once it and all with earlier ones
    have been trained one after another (work of unknown length counts nothing).  Where slack is within the margin,
    all that must be done by then press.  One that could not be met by starting now presses no more.
    """
    pressed: set[str] = set()
    by_class: dict[int, list[tuple[float, str, float]]] = defaultdict(list)
    for job in state.jobs:
        seconds = _hurried_seconds(job, state)
        if job.deadline is not None and reachable(job, now):
            by_class[job.priority].append((job.deadline, job.job, seconds))
    for dated in by_class.values():
        dated.sort()
        work, last = 0.0, 0
        for count, (deadline, _, seconds) in enumerate(dated, start=1):
            work += seconds
            if deadline - now - work <= state.policy.deadline_margin_seconds:
                last = count
        pressed.update(name for _, name, _ in dated[:last])
    return frozenset(pressed)


def reachable(job: Job, now: float) -> bool:
    """Whether the job's deadline, if it has one, could be met by starting now (work of unknown length counts nothing)."""
    return job.deadline is None or now + (job.seconds_left or 0.0) <= job.deadline


def late(deadline: float | None, now: float, *, can_be_met: bool) -> str:
    """What is added to why a job waits, when its deadline is past or past hope; empty when it is not."""
    if deadline is None or (can_be_met and now <= deadline):
        return ""
    return "; its deadline has passed" if now > deadline else "; its deadline can no longer be met"


def _hurried_seconds(job: Job, state: State) -> float:
    """Seconds that the job takes when it is in a hurry: a joint one then has little of what joint steps gain."""
    gain = state.policy.joint_gain if job.needs.group else 1.0
    return gain * (job.seconds_left or 0.0)


def in_line(state: State, waiting: Sequence[Job], now: float) -> list[Candidate]:
    """The ``waiting`` jobs in the order in which they are to start."""
    shares, pressed = Shares(state, now), pressing(state, now)
    lifts = _lifts(state, waiting, now)
    lines: dict[str, list[Candidate]] = defaultdict(list)
    for job in waiting:
        lines[job.tenant].append(Candidate(job, job.priority + lifts.get(job.job, 0), job.job in pressed))
    counted = Counter(
        job.tenant
        for job in state.jobs
        if job.phase is Phase.RUNNING and now - job.since < state.policy.quantum_seconds
    )

    def place(name: str) -> tuple[_Place, float, float, str]:
        """The tenant's place in line: less goes first."""
        first = lines[name][-1]
        penalty = counted[name] * state.policy.entry_penalty_seconds / state.tenant(name).weight
        return _place(first), shares.used(name) + penalty, first.job.queued_at, name

    for line in lines.values():
        # The first stands last, to be taken from there.
        line.sort(key=lambda it: (_place(it), it.job.queued_at, it.job.job), reverse=True)
    ordered: list[Candidate] = []
    heap = [place(name) for name in lines]
    heapq.heapify(heap)
    while heap:
        name = heap[0][-1]
        ordered.append(lines[name].pop())
        counted[name] += 1
        if lines[name]:
            heapq.heapreplace(heap, place(name))
        else:
            heapq.heappop(heap)
    return ordered


_Place = tuple[int, float]


def _place(candidate: Candidate) -> _Place:
    """By class, and in it by a deadline that presses."""
    deadline = candidate.job.deadline if candidate.urgent else None
    return -candidate.level, math.inf if deadline is None else deadline


def _lifts(state: State, waiting: Sequence[Job], now: float) -> dict[str, int]:
    """Classes by which jobs are lifted: of each tenant and class the oldest one."""
    running: dict[str, int] = {}
    for job in state.jobs:
        if job.phase is Phase.RUNNING:
            running[job.tenant] = min(job.priority, running.get(job.tenant, job.priority))
    oldest: dict[tuple[str, int], Job] = {}
    for job in sorted(waiting, key=lambda job: (job.idle_since, job.job), reverse=True):
        oldest[job.tenant, job.priority] = job
    lifts = {}
    for (name, priority), job in oldest.items():
        if priority < running.get(name, priority + 1):
            started = [moment for of, moment in state.tenant(name).started.items() if of <= priority]
            waited = now - max([job.idle_since, *started])
            lifts[job.job] = lifted(waited, state.policy.ageing_seconds)
    return lifts
