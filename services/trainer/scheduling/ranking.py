"""Whose turn it is: the order of the jobs that wait.

First the class, then what the tenant has used for its weight, then age.  Three things temper that:
- Each job that a tenant has just started, or that stands before its others in line, counts as if it had used
  `entry_penalty_seconds` already, so that a hundred jobs at once are a hundred turns and not one.
- A tenant that gets nothing is lifted by a class for each `ageing_seconds`; among its own jobs each one's own wait
  counts the same way.  A tenant that is being served is never lifted, or whoever waits with a thousand jobs would
  overtake whoever has one.
- A deadline puts a job before the others of its class once there is no time to lose, and no earlier.
Invariant: a tenant's jobs among themselves take nothing from other tenants: they share out the places that
the tenant has in line.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.trainer.scheduling.state import Job, Phase, State, Tenant
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


def pressing(jobs: Iterable[Job], now: float, margin_seconds: float) -> frozenset[str]:
    """Jobs whose deadlines leave no time to lose, by name.

    In each class, by deadline: the slack of a job is what is left to its deadline once it and all with earlier ones
    have been trained one after another (work of unknown length counts nothing).  Where slack is within the margin,
    all that must be done by then press.  One that could not be met by starting now presses no more.
    """
    pressed: set[str] = set()
    by_class: dict[int, list[tuple[float, str, float]]] = defaultdict(list)
    for job in jobs:
        seconds = job.seconds_left or 0.0
        if job.deadline is not None and not job.at_rung and now + seconds <= job.deadline:
            by_class[job.priority].append((job.deadline, job.job, seconds))
    for dated in by_class.values():
        dated.sort()
        work, last = 0.0, 0
        for count, (deadline, _, seconds) in enumerate(dated, start=1):
            work += seconds
            if deadline - now - work <= margin_seconds:
                last = count
        pressed.update(name for _, name, _ in dated[:last])
    return frozenset(pressed)


def in_line(state: State, waiting: Sequence[Job], now: float) -> list[Candidate]:
    """The ``waiting`` jobs in the order in which they are to start."""
    policy, shares = state.policy, Shares(state, now)
    pressed = pressing(state.jobs, now, policy.deadline_margin_seconds)
    lines = {
        name: _Line(state.tenant(name), own, pressed, _served(state, name), state, now)
        for name, own in _by_tenant(waiting).items()
    }
    ordered: list[Candidate] = []
    heap = [(line.key(shares), name) for name, line in lines.items()]
    heapq.heapify(heap)
    while heap:
        name = heapq.heappop(heap)[1]
        line = lines[name]
        ordered.append(line.take())
        if line.left:
            heapq.heappush(heap, (line.key(shares), name))
    return ordered


class _Line:
    """One tenant's jobs in its own order, and the places that they have among all tenants, best first."""

    def __init__(
        self, tenant: Tenant, own: list[Job], pressed: frozenset[str], served: float, state: State, now: float
    ) -> None:
        policy = state.policy
        young = sum(
            job.tenant == tenant.tenant and job.phase is Phase.RUNNING and now - job.since < policy.quantum_seconds
            for job in state.jobs
        )
        self._tenant = tenant
        self._penalty = policy.entry_penalty_seconds
        self._counted = young * self._penalty
        places = sorted((-job.priority, job.job not in pressed, _deadline(job, pressed)) for job in own)
        level, *rest = places[0]
        waited = now - max(served, min(job.since for job in own))
        places[0] = (level - lifted(waited, policy.ageing_seconds), *rest)  # type: ignore[assignment]  # unpacked
        own.sort(
            key=lambda job: (
                -job.priority - lifted(now - job.since, policy.ageing_seconds),
                job.job not in pressed,
                _deadline(job, pressed),
                job.queued_at,
                job.job,
            )
        )
        self._taken = 0
        self._own, self._places = own, places

    @property
    def left(self) -> bool:
        return self._taken < len(self._own)

    def key(self, shares: Shares) -> tuple[int, bool, float, float, float]:
        """Less goes first."""
        level, calm, deadline = self._places[self._taken]
        used = shares.used(self._tenant.tenant) + self._counted / self._tenant.weight
        return level, calm, deadline, used, self._own[self._taken].queued_at

    def take(self) -> Candidate:
        """The next one; it counts against those behind it."""
        level, calm, _ = self._places[self._taken]
        job = self._own[self._taken]
        self._taken += 1
        self._counted += self._penalty
        return Candidate(job, -level, not calm)


def _deadline(job: Job, pressed: frozenset[str]) -> float:
    return job.deadline if job.deadline is not None and job.job in pressed else 0.0


def _served(state: State, name: str) -> float:
    """When the tenant was last charged, or last had a job started."""
    starts = (job.since for job in state.jobs if job.tenant == name and job.phase is Phase.RUNNING)
    return max((state.tenant(name).usage.as_of, *starts))


def _by_tenant(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        found[job.tenant].append(job)
    return found
