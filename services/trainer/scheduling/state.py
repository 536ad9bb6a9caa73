"""What the scheduler knows when it plans: jobs, tenants, nodes, who has the cores, and the policy.

Plain values: the trainer reads them from its tables and executors, tests make them up.  Times are
seconds since 1970 by one clock, sizes are bytes, work is tokens.
Invariant: a state says everything that a plan depends on; the same state gives the same plan, in
whatever order its parts are listed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from services.trainer.scheduling.usage import Usage


class Priority(IntEnum):
    """A job's class: a higher one goes first and may preempt a lower one."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Phase(Enum):
    """Where an unfinished job stands; paused jobs, as members of sweeps at a rung are, and finished ones take no part."""

    QUEUED = "queued"
    RUNNING = "running"
    # Still in memory, told to write a checkpoint and leave: preempted, pausing or cancelling.
    STOPPING = "stopping"


class Outcome(Enum):
    """How a job that another one waits for stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """Jobs of one group share one process a node, which holds the base once."""

    base_digest: str
    dtype: str
    threads: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job takes up.  ``group`` is None for a solo job, which has a process (or several) of its own.

    ``job_bytes`` are of the job itself, in each of its processes; for a solo job its base is among them.
    ``base_bytes`` are what the group's process holds for it and all other members together, of which the one that needs
    most decides; 0 for a solo job.
    ``processes`` is the gang size: they start together or not at all.
    """

    job_bytes: int
    threads: int
    group: Group | None = None
    base_bytes: int = 0
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Dependency:
    """A job that must have succeeded first."""

    job: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Job:
    """One unfinished job.

    ``since`` is when it entered its phase, ``queued_at`` when it was submitted or resumed.  ``stepped_at`` is when it
    last took a step: 0 for never, None where nobody knows, and then it is taken to step whenever it runs.
    ``prepared``: its process has read what comes before the first step (its rows, its checkpoint).
    ``epoch`` is that of its row's lease; a start carries it, and whoever comes second with the same one has lost.
    ``nodes`` names a node for each process while it runs; ``replica`` is the trainer that holds it.
    ``tokens_per_second`` are trained tokens over seconds of machine charged for them (None until measured).
    """

    job: str
    tenant: str
    priority: Priority
    phase: Phase
    queued_at: float
    since: float
    needs: Needs
    stepped_at: float | None = None
    prepared: bool = True
    epoch: int = 0
    deadline: float | None = None
    tokens_left: int = 0
    tokens_per_second: float | None = None
    nodes: tuple[str, ...] = ()
    replica: str = ""
    after: tuple[Dependency, ...] = ()

    @property
    def resident(self) -> bool:
        """Whether it takes up memory."""
        return self.phase is not Phase.QUEUED

    @property
    def idle_since(self) -> float:
        """Since when it has wanted to train and has not, be it in line or in memory."""
        return max(self.queued_at, self.since if self.stepped_at is None else self.stepped_at)

    @property
    def seconds_left(self) -> float | None:
        """Seconds of machine that it still needs; None when its speed is not known."""
        return self.tokens_left / self.tokens_per_second if self.tokens_per_second else None


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of a tenant; None is no limit.  ``window_tokens`` are trained tokens in a window of the clock."""

    resident_bytes: int | None = None
    concurrent_jobs: int | None = None
    window_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """Tokens that a tenant trained in the window of the clock in which ``as_of`` lies."""

    tokens: int = 0
    as_of: float = 0.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant: what it is worth, what it has used, what it may.

    ``started`` says of each class when one of its jobs was last started, of those that have ended too.
    """

    tenant: str
    weight: float = 1.0
    usage: Usage = field(default_factory=Usage)
    quota: Quota = field(default_factory=Quota)
    trained: Trained = field(default_factory=Trained)
    started: Mapping[Priority, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that trains.  Only the trainer named by ``replica`` starts and stops anything on it.

    ``serving_cores`` and ``other_cores`` are how many of its cores those who answer people have used lately, and programs
    that are not the suite's, both of which go before training; 0 where nobody looks.
    """

    node: str
    memory_bytes: int
    cores: int
    replica: str = ""
    alive: bool = True
    serving_cores: float = 0.0
    other_cores: float = 0.0


@dataclass(frozen=True, slots=True)
class Process:
    """One training process of a group (``job`` empty), or all the processes of one solo job (``group`` None)."""

    nodes: tuple[str, ...]
    group: Group | None = None
    job: str = ""

    @property
    def name(self) -> str:
        """Its name for logs and for putting processes in order."""
        group = self.group
        whose = f"{group.base_digest}/{group.dtype}/{group.threads}" if group else self.job
        return f"{whose} on {','.join(self.nodes)}"


def processes_of(job: Job) -> frozenset[Process]:
    """The processes in which a job computes; none while it is queued."""
    if job.needs.group:
        return frozenset(Process((node,), group=job.needs.group) for node in job.nodes)
    return frozenset([Process(job.nodes, job=job.job)] if job.nodes else ())


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether a process computes or rests in memory, and since when."""

    process: Process
    computing: bool
    since: float


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides.  Times in seconds.

    Half-life and entry penalty as in Kueue's admission fair sharing; a week, so that last week's heavy use counts
    half.
    """

    half_life_seconds: float = 168 * 3600.0
    # Counts against a tenant for each job that it has just started, until what the job really uses has been charged.
    entry_penalty_seconds: float = 60.0
    # Nobody is stopped, and no process loses the cores, before it has had them for so long.
    quantum_seconds: float = 60.0
    # Waiting for so long lifts a job by one class.
    ageing_seconds: float = 1800.0
    # A deadline begins to count when no more slack than this is left.
    deadline_margin_seconds: float = 300.0
    # What joint steps gain over one job after another (tests.load.trainer measures it); a job in a hurry goes without.
    joint_gain: float = 2.0
    # A job that computes and has taken no step for so long is told why.
    silence_seconds: float = 30.0
    # Windows of the clock in which trained tokens are counted against a quota.
    window_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class State:
    """All of it, as one trainer (``replica``) sees it.  A tenant that is not listed has weight 1 and no quota.

    ``elastic``: machines come and go, as in a cluster, so that there may yet be more than are listed.
    """

    jobs: tuple[Job, ...] = ()
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    turns: tuple[Turn, ...] = ()
    replica: str = ""
    policy: Policy = field(default_factory=Policy)
    elastic: bool = False

    def tenant(self, name: str) -> Tenant:
        """The tenant of that name."""
        return self.tenants.get(name) or Tenant(name)
