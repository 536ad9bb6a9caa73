"""Who must make room for whom.

A job is stopped only at a step boundary after a checkpoint, so nothing that it learned is lost; but stopping,
loading and waiting cost, and so nobody is stopped who has not run for a quantum or whose process has just got the cores,
and nobody whose place can be had without.  Who has long been in memory without a step is lifted as in line.
Invariant: a job makes room only for one of a higher class, for one whose deadline presses where its own does not,
or for a tenant under its share when its own tenant is over; and what it made room for does not make room for it
in turn a moment later (the difference between the two must be more than a quantum's use).
"""

from collections.abc import Iterable, Sequence

from services.trainer.scheduling.limits import Limits, held_bytes, spent
from services.trainer.scheduling.ranking import Candidate, Shares, lifted, pressing
from services.trainer.scheduling.room import Room
from services.trainer.scheduling.state import Job, Node, Phase, State, processes_of


class Preemption:
    """Chooses victims; those that it has named once in a plan are gone for the others.

    Where nobody makes room for a tenant's job, nobody does for those behind it in that tenant's line.
    """

    def __init__(self, state: State, room: Room, limits: Limits, now: float) -> None:
        self._state, self._room, self._limits, self._now = state, room, limits, now
        self._shares = Shares(state, now)
        self._pressed = pressing(state, now)
        self._refused: set[tuple[str, int, bool]] = set()
        fresh = {turn.process for turn in state.turns if turn.computing and self._recent(turn.since)}
        mine = {node.node for node in room.mine}
        self._stoppable = [
            job
            for job in state.jobs
            if job.phase is Phase.RUNNING and job.replica == state.replica and mine.issuperset(job.nodes)
            if not self._recent(job.since) and fresh.isdisjoint(processes_of(job))
        ]

    def _recent(self, moment: float) -> bool:
        return self._now - moment < self._state.policy.quantum_seconds

    def for_place(self, candidate: Candidate, nodes: Sequence[Node]) -> list[tuple[Job, str]]:
        """Jobs that must stop, each with the reason, so that the candidate fits on ``nodes``; empty where none would do."""
        line = (candidate.job.tenant, candidate.level, candidate.urgent)
        if line in self._refused:
            return []
        yielding = [(job, why) for job in self._stoppable if (why := self._yields(job, candidate))]
        chosen: list[tuple[Job, str]] = []
        for job, why in self._cheapest_first(yielding):
            if self._room.fits_soon(candidate.job.needs, nodes):
                break
            chosen.append((job, why))
            self._room.stop(job)
        if not self._room.fits_soon(candidate.job.needs, nodes):
            for job, _ in chosen:
                self._room.stay(job)
            self._refused.add(line)
            return []
        return self._take(self._needed(chosen, candidate, nodes))

    def for_limit(self, candidate: Candidate) -> list[tuple[Job, str]]:
        """Jobs of the candidate's own tenant that must stop so that its limits allow the candidate."""
        jobs, count = self._limits.lacking(candidate.job)
        if not jobs and not count:
            return []
        own = [
            (job, why)
            for job in self._stoppable
            if job.tenant == candidate.job.tenant and (why := self._yields(job, candidate))
        ]
        chosen: list[tuple[Job, str]] = []
        for job, why in self._cheapest_first(own):
            if jobs <= 0 and count <= 0:
                break
            chosen.append((job, why))
            jobs, count = jobs - 1, count - held_bytes(job)
        if jobs > 0 or count > 0:
            return []
        for job, _ in chosen:
            self._room.stop(job)
        return self._take(chosen)

    def _needed(
        self, chosen: list[tuple[Job, str]], candidate: Candidate, nodes: Sequence[Node]
    ) -> list[tuple[Job, str]]:
        """Of the ``chosen``, those without whom it would not fit."""
        needed = []
        for job, why in chosen:
            self._room.stay(job)
            if not self._room.fits_soon(candidate.job.needs, nodes):
                self._room.stop(job)
                needed.append((job, why))
        return needed

    def _take(self, chosen: list[tuple[Job, str]]) -> list[tuple[Job, str]]:
        for job, _ in chosen:
            self._stoppable.remove(job)
            self._limits.stop(job)
        return chosen

    def _yields(self, victim: Job, candidate: Candidate) -> str:
        """Say why the victim must make room for the candidate; empty when it need not."""
        job = candidate.job
        if spent(self._state, victim.tenant, self._now):
            return "your trained tokens of this hour are used up, and another job needs the place"
        idle_seconds = 0.0 if victim.stepped_at is None else self._now - victim.idle_since
        level = victim.priority + lifted(idle_seconds, self._state.policy.ageing_seconds)
        if candidate.level > level:
            return "a job of a higher class needs the place"
        if candidate.level < level:
            return ""
        if candidate.urgent and victim.job not in self._pressed:
            return "a job with a deadline that presses needs the place"
        if victim.job in self._pressed or victim.tenant == job.tenant or not self._over_share(victim, job):
            return ""
        return "a job of a tenant that has used less of its share needs the place"

    def _over_share(self, victim: Job, job: Job) -> bool:
        """Whether the victim's tenant is over its share and the job's tenant so far under that they do not swap back.

        Memory that the job's tenant has already is weighed too: having used little is no right to all of it.
        """
        ours, theirs = self._shares.used(job.tenant), self._shares.used(victim.tenant)
        weight, their_weight = self._state.tenant(job.tenant).weight, self._state.tenant(victim.tenant).weight
        if not ours < self._shares.fair < theirs or theirs - ours < self._state.policy.quantum_seconds / weight:
            return False
        held = self._limits.coming_bytes(job.tenant)
        left = self._limits.coming_bytes(victim.tenant) - held_bytes(victim)
        return not held or (held + held_bytes(job)) / weight <= left / their_weight

    def _cheapest_first(self, yielding: Iterable[tuple[Job, str]]) -> list[tuple[Job, str]]:
        """Those that do nothing, then the lowest class, then who is most over its share, then who ran least."""

        def cost(entry: tuple[Job, str]) -> tuple[int, int, float, float, str]:
            job = entry[0]
            idle = spent(self._state, job.tenant, self._now)
            return int(not idle), job.priority, -self._shares.used(job.tenant), -job.since, job.job

        return sorted(yielding, key=cost)
