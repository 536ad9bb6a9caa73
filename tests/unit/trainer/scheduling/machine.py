"""A model of machines that train by the plan: time in ticks, work in tokens, nothing real.

It does what the trainer does: plans, starts, stops after a checkpoint, lets processes compute, chooses who takes part
in a joint step, charges tenants; and checks at every tick what must hold at every moment.
Failing a rule raises AssertionError with the rule's name.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from services.trainer.scheduling.actions import Drop, Go, Hold, Planned, Preempt, Start, Unfit, Verdict, applied
from services.trainer.scheduling.choosing import Member, Memory, Share, Step, choose
from services.trainer.scheduling.limits import allows, tokens_left
from services.trainer.scheduling.planning import plan
from services.trainer.scheduling.ranking import pressing
from services.trainer.scheduling.state import (
    Dependency,
    Job,
    Node,
    Outcome,
    Phase,
    Policy,
    Process,
    State,
    Tenant,
    Trained,
    Turn,
    processes_of,
)
from services.trainer.scheduling.usage import charge, joint_charges, solo_charge, window_tokens


@dataclass(frozen=True, slots=True)
class Model:
    """What the machines are like.

    Plans are made, and carried out at once, every ``plan_ticks``; joint steps and solo jobs train ``rate`` tokens a second.  Not ``serialised``: all trainers plan on what the table was before any of them wrote.
    """

    tick_seconds: float = 1.0
    checkpoint_seconds: float = 3.0
    rate: float = 100.0
    unit_tokens: int = 20
    units_a_step: int = 2
    max_members: int = 5
    plan_ticks: int = 1
    serialised: bool = True


@dataclass(slots=True)
class Outcomes:
    """What became of the jobs, and what tenants were charged."""

    started: dict[str, float] = field(default_factory=dict)
    computed: dict[str, float] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    preempted: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens: Counter[str] = field(default_factory=Counter)


class Machine:
    """Runs jobs that arrive at their ``queued_at``."""

    def __init__(
        self,
        jobs: Iterable[Job],
        nodes: Sequence[Node],
        tenants: Iterable[Tenant] = (),
        policy: Policy | None = None,
        model: Model | None = None,
    ) -> None:
        self.policy, self.model = policy or Policy(), model or Model()
        self._coming = sorted(jobs, key=lambda job: (job.queued_at, job.job))
        self.jobs: dict[str, Job] = {}
        self.nodes = {node.node: node for node in nodes}
        self.tenants = {tenant.tenant: tenant for tenant in tenants}
        self.turns: dict[Process, Turn] = {}
        self._memories: dict[Process, Memory] = defaultdict(Memory)
        self._units: Counter[str] = Counter()
        self._order_of_listing = 0
        self._ticks = 0
        self.now = 0.0
        self.outcomes = Outcomes()

    def run(self, until: Callable[[], bool], limit_seconds: float) -> Outcomes:
        """Run until the condition holds; AssertionError when it takes longer than the limit."""
        while not until():
            assert self.now < limit_seconds, f"not by {limit_seconds} s; unfinished: {sorted(self.jobs)[:5]}"
            self._tick()
        return self.outcomes

    def run_all(self, limit_seconds: float) -> Outcomes:
        """Run until no job is left."""
        return self.run(lambda: not self._coming and not self.jobs, limit_seconds)

    def view(self, replica: str) -> State:
        """What a trainer sees, its jobs listed now this way and now that."""
        self._order_of_listing += 1
        jobs = tuple(self.jobs.values())
        return State(
            jobs=jobs if self._order_of_listing % 2 else jobs[::-1],
            tenants=dict(self.tenants),
            nodes=tuple(self.nodes.values()),
            turns=tuple(self.turns.values()),
            replica=replica,
            policy=self.policy,
        )

    def _tick(self) -> None:
        while self._coming and self._coming[0].queued_at <= self.now:
            job = self._coming.pop(0)
            self.jobs[job.job] = replace(job, since=self.now, stepped_at=0.0)
        self._leave()
        if self._ticks % self.model.plan_ticks == 0:
            self._plan()
        self._check()
        self._compute()
        self._ticks += 1
        self.now = self._ticks * self.model.tick_seconds

    def _plan(self) -> None:
        replicas = sorted({node.replica for node in self.nodes.values()})
        if self.model.serialised:
            for replica in replicas:
                self._carry_out(self.planned(replica), replica)
            return
        plans = [(replica, self.planned(replica)) for replica in replicas]
        for replica, its in plans:
            self._carry_out(its, replica)

    def planned(self, replica: str) -> list[Planned]:
        """The plan of a trainer, having checked that it asks for nothing more once it is carried out."""
        view = self.view(replica)
        its = plan(view, self.now)
        after = plan(applied(view, its, self.now), self.now)
        assert all(isinstance(it, Verdict) for it in after), f"idempotent: {its} then {after}"
        told = {it.job for it in its if isinstance(it, Verdict | Drop | Unfit)}
        assert told >= {job.job for job in view.jobs if job.phase is Phase.QUEUED} - {
            it.job for it in its if isinstance(it, Start)
        }, "everybody is told"
        return its

    def _carry_out(self, its: list[Planned], replica: str) -> None:
        for it in its:
            match it:
                case Start(name, nodes, epoch):
                    job = self.jobs[name]
                    if job.epoch != epoch:
                        continue
                    if not self._allowed(job):
                        assert not self.model.serialised, "nothing is planned over a limit"
                        continue
                    assert job.phase is Phase.QUEUED, "no job runs twice"
                    assert all(self.nodes[node].replica == replica for node in nodes), "only on one's own nodes"
                    assert len(nodes) == job.needs.processes, "a gang starts whole"
                    assert all(it.outcome is Outcome.SUCCEEDED for it in job.after), "dependencies are respected"
                    self.jobs[name] = replace(
                        job, phase=Phase.RUNNING, since=self.now, nodes=nodes, replica=replica, epoch=epoch + 1
                    )
                    self.outcomes.started.setdefault(name, self.now)
                    tenant = self.tenants.setdefault(job.tenant, Tenant(job.tenant))
                    started = {**tenant.started, job.priority: self.now}
                    self.tenants[job.tenant] = replace(tenant, started=started)
                case Preempt(name):
                    job = self.jobs[name]
                    assert job.replica == replica, "only one's own jobs are stopped"
                    assert self.now - job.since >= self.policy.quantum_seconds, "after the quantum"
                    self.jobs[name] = replace(job, phase=Phase.STOPPING, since=self.now)
                    self.outcomes.preempted[name] += 1
                case Drop(name, why) | Unfit(name, why):
                    self.jobs.pop(name, None)
                    self.outcomes.refused[name] = why
                    self._tell(name, Outcome.FAILED)
                case Go(process) | Hold(process):
                    if isinstance(it, Hold):
                        held = self.now - self.turns[process].since
                        assert held >= self.policy.quantum_seconds or not self._able(process), "a turn is a quantum"
                    self.turns[process] = Turn(process, isinstance(it, Go), self.now)

    def _leave(self) -> None:
        """Those that were told to stop, and have ended the steps that they had begun, have written their checkpoints."""
        for job in list(self.jobs.values()):
            if job.phase is not Phase.STOPPING:
                continue
            assert not self._ends_step(job) or self.now - job.since <= self.model.checkpoint_seconds, "who must, leaves"
            if self.now - job.since >= self.model.checkpoint_seconds and not self._ends_step(job):
                self.jobs[job.job] = replace(job, phase=Phase.QUEUED, since=self.now, nodes=(), replica="")
        alive = {process for job in self.jobs.values() for process in processes_of(job)}
        for process in self.turns.keys() - alive:
            del self.turns[process]
            self._memories.pop(process, None)

    def _members(self, process: Process) -> list[Job]:
        return [job for job in self.jobs.values() if job.phase is Phase.RUNNING and process in processes_of(job)]

    def _begun(self, job: Job) -> bool:
        return self._units[job.job] % self.model.units_a_step != 0

    def _ends_step(self, job: Job) -> bool:
        """Whether it was told to stop and has to end its step first; solo jobs train by the tick."""
        joint = job.needs.group is not None
        return joint and job.phase is Phase.STOPPING and self._begun(job)

    def _leaving(self, process: Process) -> list[Job]:
        """Those of its jobs that leave with the end of the step that they have begun."""
        return [job for job in self.jobs.values() if self._ends_step(job) and process in processes_of(job)]

    def _able(self, process: Process) -> list[Job]:
        """Those of its jobs that may train."""
        view = self.view("")
        return [job for job in self._members(process) if tokens_left(view, job.tenant, self.now) != 0]

    def _check(self) -> None:
        for node in self.nodes.values():
            here = [job for job in self.jobs.values() if job.resident and node.node in job.nodes]
            jobs = sum(job.needs.job_bytes * job.nodes.count(node.node) for job in here)
            bases = {job.needs.group: job.needs.base_bytes for job in here if job.needs.group}
            assert jobs + sum(bases.values()) <= node.memory_bytes, "memory"
            computing = [turn.process for turn in self.turns.values() if turn.computing]
            threads = [
                next(job for job in here if process in processes_of(job)).needs.threads * process.nodes.count(node.node)
                for process in computing
                if node.node in process.nodes and any(process in processes_of(job) for job in here)
            ]
            assert sum(threads) <= node.cores or len(threads) <= 1, "cores"
        for tenant in self.tenants.values():
            own = [job for job in self.jobs.values() if job.resident and job.tenant == tenant.tenant]
            assert len(own) <= (tenant.quota.concurrent_jobs or len(own)), "concurrent jobs"
            held = sum(job.needs.job_bytes * job.needs.processes for job in own)
            assert held <= (held if tenant.quota.resident_bytes is None else tenant.quota.resident_bytes), "bytes"

    def _allowed(self, job: Job) -> bool:
        """As whoever takes a job asks, in the transaction that does."""
        held = [other.needs for other in self.jobs.values() if other.resident and other.tenant == job.tenant]
        return allows(self.tenants.get(job.tenant, Tenant(job.tenant)).quota, job.needs, held)

    def _compute(self) -> None:
        for turn in sorted(self.turns.values(), key=lambda turn: turn.process.name):
            # Whom a job leaves does not rest before that.
            if turn.process.group and (turn.computing or self._leaving(turn.process)):
                self._joint(turn.process)
            elif turn.computing:
                for job in self._members(turn.process):
                    self._solo(job)

    def _joint(self, process: Process) -> None:
        """Joint steps until the tick is over; a step takes as long as its tokens."""
        left = int(self.model.rate * self.model.tick_seconds)
        while left > 0 and (self._able(process) or self._leaving(process)):
            tokens = self._step(process, [*self._members(process), *self._leaving(process)], left)
            left -= sum(tokens.values())
            for name, seconds in joint_charges(sum(tokens.values()) / self.model.rate, tokens).items():
                self._units[name] += 1
                self._trained(name, tokens[name], seconds)

    def _step(self, process: Process, jobs: list[Job], budget: int) -> dict[str, int]:
        """Tokens of each job in the next step."""
        model, view = self.model, self.view("")
        pressed = pressing(view, self.now)
        members = [
            Member(
                job.job,
                job.tenant,
                min(model.unit_tokens, job.tokens_left),
                job.tokens_left,
                job.priority,
                begun=self._begun(job),
                leaving=self._ends_step(job),
                pressing=job.job in pressed,
                deadline=job.deadline or 0.0,
            )
            for job in jobs
        ]
        shares = {
            name: Share(tenant.weight, tenant.usage.seconds, tokens_left(view, name, self.now))
            for name, tenant in self.tenants.items()
        }
        step = Step(budget, model.max_members, model.rate)
        names, self._memories[process] = choose(members, shares, step, self._memories[process])
        assert names, "a step that could be is taken"
        staying = [job for job in jobs if job.job in names and not self._ends_step(job)]
        assert all(tokens_left(view, job.tenant, self.now) != 0 for job in staying), "trained tokens"
        return {member.job: member.unit_tokens for member in members if member.job in names}

    def _solo(self, job: Job) -> None:
        cores = self.nodes[job.nodes[0]].cores
        seconds = solo_charge(self.model.tick_seconds, job.needs.threads, cores) * job.needs.processes
        self._trained(job.job, min(job.tokens_left, int(self.model.rate * self.model.tick_seconds)), seconds)

    def _trained(self, name: str, tokens: int, seconds: float) -> None:
        job, end = self.jobs[name], self.now + self.model.tick_seconds
        tenant = self.tenants.setdefault(job.tenant, Tenant(job.tenant))
        counted = window_tokens(tenant.trained.tokens, tenant.trained.as_of, self.now, self.policy.window_seconds)
        most = tenant.quota.window_tokens
        # Solo jobs are held once a tick.
        assert most is None or counted < most + self.model.rate * self.model.tick_seconds * 4, "trained tokens"
        self.tenants[job.tenant] = replace(
            tenant,
            usage=charge(tenant.usage, seconds, end, self.policy.half_life_seconds),
            trained=Trained(counted + tokens, self.now),
        )
        self.outcomes.computed.setdefault(name, self.now)
        self.outcomes.seconds[job.tenant] += seconds
        self.outcomes.tokens[job.tenant] += tokens
        if tokens < job.tokens_left:
            left = job.tokens_left - tokens
            self.jobs[name] = replace(job, tokens_left=left, tokens_per_second=self.model.rate, stepped_at=self.now)
            return
        del self.jobs[name]
        self.outcomes.finished[name] = end
        self._tell(name, Outcome.SUCCEEDED)

    def _tell(self, name: str, outcome: Outcome) -> None:
        """Tell those that wait for the job."""

        def told(job: Job) -> Job:
            return replace(job, after=tuple(Dependency(it.job, outcome) if it.job == name else it for it in job.after))

        self.jobs = {other: told(job) for other, job in self.jobs.items()}
        self._coming = [told(job) for job in self._coming]
