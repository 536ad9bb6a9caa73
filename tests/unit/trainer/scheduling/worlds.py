"""States for tests: short ways to say what waits, what runs and where."""

from dataclasses import replace
from typing import Any

from services.trainer.scheduling.actions import Planned, Verdict
from services.trainer.scheduling.planning import plan
from services.trainer.scheduling.state import Group, Job, Needs, Node, Phase, Priority, State
from services.trainer.scheduling.usage import Usage

MIB = 1024**2
GIB = 1024**3
GROUP = Group("sha256:base", "bf16", 2)
JOINT = Needs(job_bytes=40 * MIB, threads=2, group=GROUP, base_bytes=300 * MIB)
SOLO = Needs(job_bytes=2 * GIB, threads=2)
NODE = Node("n", memory_bytes=8 * GIB, cores=2)


def job(name: str, tenant: str = "t", needs: Needs = JOINT, at: float = 0.0, **fields: Any) -> Job:
    """A job that waits since ``at``."""
    waiting: dict[str, Any] = {"priority": Priority.NORMAL, "phase": Phase.QUEUED, "queued_at": at, "since": at}
    return Job(name, tenant, needs=needs, **(waiting | fields))


def running(name: str, tenant: str = "t", needs: Needs = JOINT, since: float = 0.0, **fields: Any) -> Job:
    """A job that runs since ``since``."""
    placed: dict[str, Any] = {"nodes": ("n",) * needs.processes, "phase": Phase.RUNNING, "since": since}
    return job(name, tenant, needs, **(placed | fields))


def state(*jobs: Job, nodes: tuple[Node, ...] = (NODE,), **fields: Any) -> State:
    """A state of these jobs."""
    return State(jobs, nodes=nodes, **fields)


def used(seconds: float) -> Usage:
    """Usage as of the beginning."""
    return Usage(seconds, 0.0)


def actions(planned: list[Planned], *kinds: Any) -> list[Any]:
    """The actions of these kinds; all but verdicts without."""
    return [it for it in planned if (isinstance(it, kinds) if kinds else not isinstance(it, Verdict))]


def planned(it: State, now: float, *kinds: Any) -> list[Any]:
    """What the plan asks for."""
    return actions(plan(it, now), *kinds)


def verdict(it: State, now: float, name: str) -> Verdict:
    """What the owner of the job is told."""
    return next(found for found in plan(it, now) if isinstance(found, Verdict) and found.job == name)


def changed(it: State, name: str, **fields: Any) -> State:
    """The state with one job changed."""
    return replace(it, jobs=tuple(replace(one, **fields) if one.job == name else one for one in it.jobs))
