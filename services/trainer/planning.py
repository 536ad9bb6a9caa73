"""The job table as the scheduler sees it: rows, leases, quotas and nodes, made into one `scheduling.State`.

Invariant: nothing is decided here.  What is not a row or a node is the operator's: weights and quotas of tenants.
"""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from services.chassis.errors import Failure, Reason
from services.trainer.job import Job, Order, State
from services.trainer.scheduling import state as scheduling
from services.trainer.scheduling.room import gib
from services.trainer.scheduling.usage import Usage
from services.trainer.settings import Method
from services.trainer.speeds import Kind, kind_of, measured
from services.trainer.store import UsageRow

_OUTCOMES = {
    State.SUCCEEDED: scheduling.Outcome.SUCCEEDED,
    State.FAILED: scheduling.Outcome.FAILED,
    State.CANCELLED: scheduling.Outcome.CANCELLED,
}
DTYPE = "bfloat16"
# Rows that take less are not what an order fails by.
_TOLD_ROW_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an operator grants a tenant; None is no limit.  ``highest_priority`` is the highest class that it may order."""

    weight: float = 1.0
    resident_bytes: int | None = None
    concurrent_jobs: int | None = None
    tokens_per_hour: int | None = None
    highest_priority: scheduling.Priority = scheduling.Priority.HIGH

    @property
    def quota(self) -> scheduling.Quota:
        """Its limits, as the plan takes them."""
        return scheduling.Quota(self.resident_bytes, self.concurrent_jobs, self.tokens_per_hour)

    def class_of(self, asked: scheduling.Priority | None) -> scheduling.Priority:
        """The class of an order that asks for it; None, for one that asks for none, is NORMAL where that is allowed.

        Raises FIELD_INVALID for one above the highest.
        """
        highest = self.highest_priority
        if asked is None:
            return min(scheduling.Priority.NORMAL, highest)
        if asked > highest:
            problem = (
                f"{asked.name} is above {highest.name}, the highest class that you may order here: order {highest.name} or "
                "leave it out, or have the operator raise your highest_priority"
            )
            raise Failure(Reason.FIELD_INVALID, field="priority", problem=problem)
        return asked


@dataclass(frozen=True, slots=True)
class Seen:
    """What the runner knows beside the table.

    ``here`` are jobs whose base is on this machine, ``stopping`` those that were told to give way, ``unprepared`` those
    whose processes have yet to read what comes before the first step; ``speeds`` are of jobs that have measured none of
    their own yet; ``elastic`` as State.elastic.
    """

    replica: str
    now: float
    nodes: Sequence[scheduling.Node]
    turns: Sequence[scheduling.Turn]
    here: Set[str]
    stopping: Set[str]
    threads: int
    unprepared: Set[str] = frozenset()
    allowances: Mapping[str, Allowance] = field(default_factory=dict)
    policy: scheduling.Policy = field(default_factory=scheduling.Policy)
    speeds: Mapping[Kind, float] = field(default_factory=dict)
    elastic: bool = False


def state_of(
    jobs: Iterable[Job], outcomes: Mapping[str, State], usage: Mapping[str, UsageRow], seen: Seen
) -> scheduling.State:
    """The state to plan on.  ``outcomes`` says how the jobs stand that others depend on, by id."""
    planned = [job for job in jobs if _concerns(job, seen)]
    tenants = {job.tenant for job in planned} | set(usage)
    return scheduling.State(
        jobs=tuple(_job(job, outcomes, seen) for job in planned),
        tenants={tenant: _tenant(tenant, usage.get(tenant), seen) for tenant in tenants},
        nodes=tuple(seen.nodes),
        turns=tuple(seen.turns),
        replica=seen.replica,
        policy=seen.policy,
        elastic=seen.elastic,
    )


def gang_unfit(order: Order, *, gangs: bool) -> str:
    """Why the order may not have as many processes as it wants; empty when it may.  ``gangs``: whether any may."""
    if order.processes > 1 and order.settings.method is not Method.FULL:
        return (
            f"processes is {order.processes}, and {order.settings.method.value} trains in one: leave it out, or choose "
            "the method full"
        )
    if order.processes > 1 and not gangs:
        return (
            f"processes is {order.processes}, and this deployment trains on one machine, where a job has one process: "
            "leave it out, or have the operator set up a cluster (TRIVIUM_TRAINER_EXECUTOR=ray)"
        )
    return ""


def unfit(order: Order, nodes: Sequence[scheduling.Node], granted: Allowance, *, gangs: bool = False) -> str:
    """Why the order could never be trained here, with the arithmetic; empty when it could."""
    if problem := gang_unfit(order, gangs=gangs):
        return problem
    needed = order.job_bytes + order.base_bytes
    largest = max((node.memory_bytes for node in nodes), default=0)
    rows = f", {gib(order.row_bytes)} of these for its rows," if order.row_bytes >= _TOLD_ROW_BYTES else ""
    fewer = "fewer rows (sample_rows), " if rows else ""
    parts = f"{gib(order.job_bytes)} for the job{rows} and {gib(order.base_bytes)} for its base and a step"
    if nodes and needed > largest:
        return (
            f"it needs {gib(needed)} ({parts}), the largest machine gives training {gib(largest)}: use {fewer}a smaller base "
            "or rank, shorter rows, a smaller micro_batch_tokens or fewer target modules"
            + ("" if order.settings.gradient_checkpointing else ", or gradient_checkpointing")
        )
    threads = max(1, order.threads)
    room = sum(min(node.memory_bytes // max(1, needed), max(1, node.cores // threads)) for node in nodes)
    if order.processes > 1 and room < order.processes:
        return (
            f"it wants {order.processes} processes of {gib(needed)} and {threads} threads each, and all machines "
            f"together have room for {room}: ask for fewer"
        )
    # A base that is shared by all who train on it counts against nobody; a job that trains alone has one of its own.
    own = (order.job_bytes if order.settings.method.joint else needed) * order.processes
    if granted.resident_bytes is not None and own > granted.resident_bytes:
        return (
            f"it needs {gib(own)} for itself{rows.removesuffix(',')}, your jobs may hold {gib(granted.resident_bytes)} in "
            f"all: use {fewer}a lower rank"
        )
    return ""


def resident(job: Job, seen: Seen) -> bool:
    """Whether a process holds the job, as far as its row says."""
    return job.state.holds_child and job.lease.held(seen.now)


def needs(job: Job, threads: int) -> scheduling.Needs:
    """What the job takes up while it trains."""
    order = job.order
    if not order.settings.method.joint:
        return scheduling.Needs(order.job_bytes + order.base_bytes, threads, processes=order.processes)
    # A job whose processes were lost twice in a row shares none, so that it cannot take others along again.
    digest = f"{order.base_digest}!{job.job}" if job.crashes > 1 else order.base_digest
    return scheduling.Needs(
        order.job_bytes, threads, scheduling.Group(digest, DTYPE, threads), order.base_bytes, order.processes
    )


def _concerns(job: Job, seen: Seen) -> bool:
    """Paused jobs and those on their way into the registry take no part; nor do those whose base is still to come."""
    if job.state in (State.PAUSED, State.REGISTERING):
        return False
    return resident(job, seen) or (job.state in (State.QUEUED, State.RUNNING) and job.job in seen.here)


def _job(job: Job, outcomes: Mapping[str, State], seen: Seen) -> scheduling.Job:
    held = resident(job, seen)
    stopping = held and (job.state is not State.RUNNING or job.job in seen.stopping)
    running = scheduling.Phase.STOPPING if stopping else scheduling.Phase.RUNNING
    measures, progress = job.measures, job.progress
    left = progress.total_steps - progress.step
    step_tokens = progress.trained_tokens / progress.step if progress.step else job.order.step_tokens
    return scheduling.Job(
        job=job.job,
        tenant=job.tenant,
        priority=job.order.priority,
        phase=running if held else scheduling.Phase.QUEUED,
        queued_at=job.queue_time.timestamp(),
        since=job.lease.since if held else job.queue_time.timestamp(),
        needs=needs(job, job.order.threads or seen.threads),
        epoch=job.lease.epoch,
        deadline=job.order.deadline or None,
        tokens_left=round(left * step_tokens),
        # Of an earlier release's order nobody knows how much it is.
        tokens_per_second=(measured(job) or seen.speeds.get(kind_of(job.order))) if step_tokens else None,
        nodes=job.lease.nodes if held else (),
        replica=job.lease.owner if held else "",
        after=tuple(
            scheduling.Dependency(name, _OUTCOMES.get(outcomes[name], scheduling.Outcome.PENDING))
            for name in job.order.depends_on
        ),
        stepped_at=measures.stepped_at,
        prepared=job.job not in seen.unprepared,
    )


def allowance_of(tenant: str, allowances: Mapping[str, Allowance]) -> Allowance:
    """What the tenant is granted: its own entry, or that of everybody (`*`), or no limit."""
    return allowances.get(tenant) or allowances.get("*") or Allowance()


def _tenant(tenant: str, row: UsageRow | None, seen: Seen) -> scheduling.Tenant:
    granted = allowance_of(tenant, seen.allowances)
    quota = granted.quota
    if row is None:
        return scheduling.Tenant(tenant, granted.weight, quota=quota)
    return scheduling.Tenant(
        tenant,
        granted.weight,
        Usage(row.used_seconds, row.used_at),
        quota,
        scheduling.Trained(row.window_tokens, row.window_at),
        {scheduling.Priority(int(priority)): moment for priority, moment in json.loads(row.started).items()},
    )
