"""`plan`: what to start, stop, let compute and tell people, from the state alone.

Read `ranking` for the order, `limits` and `room` for what keeps a job waiting, `preemption` for who makes room, `turns`
for who has the cores, `estimates` for the times.
Invariants: a queued job starts at most once, and only on this trainer's nodes; nothing is planned over a limit or
over a node's memory; a plan whose actions have been carried out asks for nothing more at the same moment.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from services.trainer.scheduling.actions import Action, Drop, Planned, Preempt, Start, Unfit, Verdict, applied
from services.trainer.scheduling.estimates import Forecast
from services.trainer.scheduling.limits import Limits, spent
from services.trainer.scheduling.preemption import Preemption
from services.trainer.scheduling.ranking import Candidate, in_line, late, reachable
from services.trainer.scheduling.room import Room, gib
from services.trainer.scheduling.state import Job, Node, Outcome, Phase, Process, State, processes_of
from services.trainer.scheduling.turns import turns
from services.trainer.scheduling.usage import window_end


def plan(state: State, now: float) -> list[Planned]:
    """Return the actions in the order in which they are to be carried out, then a verdict on every job that is left.

    Several trainers may plan over one table, each on what it was; whether a start still holds is for the transaction that
    carries it out to see: by the job's epoch, and by its tenant's limits (`limits.allows`).
    """
    state = replace(
        state,
        jobs=tuple(sorted(state.jobs, key=lambda job: job.job)),
        nodes=tuple(sorted(state.nodes, key=lambda node: node.node)),
    )
    done: list[Action] = []
    while True:
        admission = _Admission(state, now)
        actions: list[Action] = [*admission.decide()] or [*turns(state, now)]
        if not actions:
            return [*done, *_verdicts(state, admission.waiting, now)]
        done += actions
        state = applied(state, actions, now)


class _Admission:
    """One look at all that waits: who starts, who makes room, who never will; and why the others wait."""

    def __init__(self, state: State, now: float) -> None:
        self._state, self._now = state, now
        self._room, self._limits = Room(state), Limits(state, now)
        self._preemption = Preemption(state, self._room, self._limits, now)
        self._actions: list[Action] = []
        # By tenant and node.
        self._solos: dict[tuple[str, str], list[Job]] = defaultdict(list)
        for job in state.jobs:
            if job.phase is Phase.RUNNING and not job.needs.group:
                self._keep_solo(job, job.nodes)
        # In line, in order, each with why it waits; those who are not in line yet have no place in it.
        self.waiting: list[tuple[Job, int, str]] = []

    def decide(self) -> list[Action]:
        """The actions; `waiting` is filled as well."""
        queued = [job for job in self._state.jobs if job.phase is Phase.QUEUED]
        ready = []
        for job in queued:
            if why := self._hopeless(job):
                self._actions.append(why)
            elif text := self._not_in_line(job):
                self.waiting.append((job, 0, text))
            else:
                ready.append(job)
        for position, candidate in enumerate(in_line(self._state, ready, self._now), start=1):
            if text := self._admit(candidate):
                self.waiting.append((candidate.job, position, text))
        return self._actions

    def _hopeless(self, job: Job) -> Drop | Unfit | None:
        for dependency in job.after:
            if dependency.outcome in (Outcome.FAILED, Outcome.CANCELLED):
                return Drop(job.job, f"it was to follow job {dependency.job}, which has {dependency.outcome.value}")
        by_replica: dict[str, list[Node]] = {}
        for node in self._state.nodes:
            by_replica.setdefault(node.replica, []).append(node)
        # Where machines come and go, a gang waits for as many as it needs, if only one could hold a part of it.
        least = replace(job.needs, processes=1) if self._state.elastic else job.needs
        if by_replica and not any(self._room.fits_empty(least, nodes) for nodes in by_replica.values()):
            return Unfit(job.job, _unfit(job, self._state.nodes))
        return None

    def _not_in_line(self, job: Job) -> str:
        pending = [dependency.job for dependency in job.after if dependency.outcome is Outcome.PENDING]
        return f"it follows {_named(pending)}" if pending else ""

    def _admit(self, candidate: Candidate) -> str:
        """Start it, or make room for it, or say why it waits."""
        job = candidate.job
        if refusal := self._limits.refusal(job):
            self._preempt(candidate, self._preemption.for_limit(candidate))
            return refusal
        mine = [node for node in self._room.mine if self._cores_for(candidate, node)]
        others = [node for node in self._room.others if self._cores_for(candidate, node)]
        if not mine and not others:
            return "another job of yours that trains alone has the cores; this one is next" if self._alive else _NO_NODE
        if nodes := self._room.fits_now(job.needs, mine):
            self._actions.append(Start(job.job, nodes, job.epoch))
            self._room.start(job.needs, nodes)
            self._limits.start(job)
            if not job.needs.group:
                self._keep_solo(job, nodes)
            return ""
        return self._wait_for_place(candidate, mine, others)

    @property
    def _alive(self) -> bool:
        return bool(self._room.mine or self._room.others)

    def _keep_solo(self, job: Job, nodes: Iterable[str]) -> None:
        for name in nodes:
            self._solos[job.tenant, name].append(job)

    def _wait_for_place(self, candidate: Candidate, mine: list[Node], others: list[Node]) -> str:
        """Keep a place for it: where others leave already, else where others must, else where most will come free."""
        needs = candidate.job.needs
        if nodes := self._room.fits_soon(needs, others):
            self._room.promise(needs, nodes)
            return "another machine has room and takes it next"
        text = "it starts when those that make room for it have written their checkpoints"
        nodes = self._room.fits_soon(needs, mine)
        if not nodes and (victims := self._preemption.for_place(candidate, mine)):
            self._preempt(candidate, victims)
            nodes = self._room.fits_soon(needs, mine)
        if not nodes:
            nodes = self._room.fits_empty(needs, mine) or self._room.fits_empty(needs, others)
            text = ""
        if not nodes:
            return "no machine that could hold it is there at present"
        text = text or f"{self._room.shortage(needs, nodes)}; the next that comes free is kept for it"
        self._room.promise(needs, nodes)
        self._limits.promise(candidate.job)
        return text

    def _preempt(self, candidate: Candidate, victims: Iterable[tuple[Job, str]]) -> None:
        self._actions += [Preempt(job.job, candidate.job.job, why, job.epoch) for job, why in victims]

    def _cores_for(self, candidate: Candidate, node: Node) -> bool:
        """Whether the job may come to the node beside its tenant's own solo jobs of its class and above.

        They would only take turns with it, and all of them end later; those of other tenants must take turns.
        """
        job = candidate.job
        beside = [] if job.needs.group else self._solos[job.tenant, node.node]
        taken = sum(other.needs.threads for other in beside if other.priority >= candidate.level)
        return not taken or taken + job.needs.threads <= node.cores


_NO_NODE = "no machine is there at present"
_SLOW = "it is starting, or a step of it takes long"
# Of a machine's cores: with less taken from it, it is not for the others that training is slow.
_MUCH = 0.25


def _verdicts(state: State, waiting: Iterable[tuple[Job, int, str]], now: float) -> list[Verdict]:
    forecast = Forecast(state, now)
    verdicts: list[Verdict] = []
    for job, position, why in sorted(waiting, key=lambda entry: (entry[1] == 0, entry[1], entry[0].job)):
        earliest = now
        if spent(state, job.tenant, now):
            earliest = window_end(now, state.policy.window_seconds)
        finishes = [forecast.finish.get(dependency.job) for dependency in job.after]
        known = [finish for finish in finishes if finish is not None]
        start, finish = forecast.admit(job, max([earliest, *known]))
        told = why + late(job.deadline, now, can_be_met=reachable(job, now))
        verdicts.append(Verdict(job.job, position, told, start, finish))
    stepped = _stepped(state)
    resident = [job for job in state.jobs if job.resident]
    ends = forecast.finish
    return verdicts + [
        Verdict(job.job, 0, _resting(state, job, stepped, now), None, ends.get(job.job)) for job in resident
    ]


def _stepped(state: State) -> dict[Process, float]:
    """The processes that compute, each with its last sign of life: a step of any of its jobs, or when it began to."""
    stepped = {turn.process: turn.since for turn in state.turns if turn.computing}
    for job in state.jobs:
        for process in processes_of(job) & stepped.keys():
            stepped[process] = max(stepped[process], job.idle_since)
    return stepped


def _resting(state: State, job: Job, stepped: Mapping[Process, float], now: float) -> str:
    """Why a job that is in memory does not compute; empty when it does, or when another trainer knows."""
    why = _rests(state, job, stepped, now)
    return why and why + late(job.deadline, now, can_be_met=reachable(job, now))


def _rests(state: State, job: Job, stepped: Mapping[Process, float], now: float) -> str:
    if not {node.node for node in state.nodes if node.alive}.issuperset(job.nodes):
        return "its machine does not answer; it goes on from its last checkpoint once its lease has run out"
    if job.phase is Phase.STOPPING:
        return "it writes a checkpoint and stops"
    if spent(state, job.tenant, now):
        return "your trained tokens of this hour are used up"
    if job.replica != state.replica:
        return ""
    if not stepped.keys().isdisjoint(processes_of(job)):
        return _silent(state, job, stepped, now)
    return "it is in memory and has its next turn on the cores when the one that has them has had its time"


def _silent(state: State, job: Job, stepped: Mapping[Process, float], now: float) -> str:
    """Why a job whose process computes has taken no step for long; empty when it has, or nobody knows of its steps."""
    began = max(turn.since for turn in state.turns if turn.process in processes_of(job))
    if job.stepped_at is None or now - max(job.stepped_at, job.since, began) <= state.policy.silence_seconds:
        return ""
    crowded = next(filter(None, (_crowded(node) for node in state.nodes if node.node in job.nodes)), "")
    if job.needs.group and not job.prepared:
        others = any(it is not job and not it.prepared and processes_of(it) & processes_of(job) for it in state.jobs)
        turns = ": one job's after another's, the higher class first, then by tenants' shares" if others else ""
        return f"it joins when its rows are read{turns}" + (f". Meanwhile {crowded}" if crowded else "")
    last = max(stepped[process] for process in processes_of(job) & stepped.keys())
    if now - last <= state.policy.silence_seconds:
        return "others that train with it take the steps at present: within a tenant's share, those with the least left"
    return crowded or _SLOW


def _crowded(node: Node) -> str:
    """By whom a machine's cores are used to a good part, whoever uses most of them; empty when by nobody."""
    if max(node.serving_cores, node.other_cores) < _MUCH * node.cores:
        return ""
    if node.serving_cores >= node.other_cores:
        return "its machine answers requests, which go first; training takes the time that is left"
    # Without a number: it would be another reason each time that it is measured, and a log would repeat it.
    return "other programs than the suite's keep its machine busy; training takes the time that they leave"


def _unfit(job: Job, nodes: Iterable[Node]) -> str:
    needs, largest = job.needs, max(nodes, key=lambda node: node.memory_bytes)
    base = f" ({gib(needs.base_bytes)} of them for the base)" if needs.base_bytes else ""
    each = f" for each of {needs.processes} processes" if needs.processes > 1 else ""
    return (
        f"it needs {gib(needs.job_bytes + needs.base_bytes)}{base}{each}; the largest machine gives training "
        f"{gib(largest.memory_bytes)}. Use a smaller base, shorter rows or a smaller batch"
    )


def _named(jobs: list[str]) -> str:
    return f"job {jobs[0]}" if len(jobs) == 1 else "jobs " + ", ".join(jobs)
