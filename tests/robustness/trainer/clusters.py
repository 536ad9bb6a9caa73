"""A Ray cluster of several machines on this one, and a trainer's queue over it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.chassis.database import Database, open_database
from services.chassis.idempotency import IdempotencyKey
from services.chassis.logs import logger
from services.chassis.model_cache import read_digest
from services.chassis.processes import die_with_parent
from services.chassis.telemetry import Telemetry
from services.trainer.config import TrainerSettings
from services.trainer.errands import Errands
from services.trainer.executors.cluster.connection import connected
from services.trainer.executors.local import Machine
from services.trainer.executors.ray import RayExecutor
from services.trainer.job import Event, EventKind, Job, State
from services.trainer.jobs import Jobs
from services.trainer.meter import Meter
from services.trainer.remains import Remains, Retention
from services.trainer.runner import Runner
from services.trainer.scheduling.state import Policy
from services.trainer.settings import Settings
from services.trainer.terms import Granted, Limits, Wake
from services.trainer.work import Work
from tests.unit.trainer.sweeping.test_sweeps import sweeps_in
from tests.unit.trainer.test_jobs import ORDER, jobs_in, leases_in, reports_in, results_in, stored

CHECKOUT = Path(__file__).parents[3]
# Of the loopback network, and none that Ray would replace by an address that others reach.
_LOOPBACK = "127.0.0.2"
_MEMORY_BYTES = 8 << 30
WAIT_SECONDS = 240.0
# Of what a head starts otherwise nothing is looked at.
_BARE = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    # A machine is dead after five of these in which nobody answers there; who answers late has as long as ever.
    "RAY_health_check_period_ms": "500",
    "OMP_NUM_THREADS": "1",
}


class Machines:
    """The machines: Ray believes in as many as are started, each with one core.

    They are the children of a process of their own, which takes Ray's settings and signals from the test's.
    """

    def __init__(self, cache: Path) -> None:
        python_path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "clients" / "python")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.robustness.trainer.clusters"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # What processes there find measured is in ``cache``.
            env=os.environ | _QUIET | {"PYTHONPATH": python_path, "TRIVIUM_CACHE_DIR": str(cache)},
        )
        self.address, self.head = self._ask("head")

    def add(self) -> str:
        """Start one more; return its name."""
        (name,) = self._ask("add")
        return name

    def kill(self, name: str) -> None:
        """SIGKILL to all of Ray's processes there."""
        self._ask("kill", name)

    def close(self) -> None:
        """End all."""
        self._process.communicate(timeout=WAIT_SECONDS)

    def _ask(self, *words: str) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer: list[str] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def machines(cache: Path) -> Iterator[Machines]:
    """One machine, the head, to which others may be added."""
    started = Machines(cache)
    try:
        yield started
    finally:
        started.close()


def _patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Ray gives a machine half a minute to start, which is little where others have the processors."""

    def patient(*arguments: Any) -> Any:
        until = time.monotonic() + WAIT_SECONDS
        pause = threading.Event()
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                pause.wait(0.1)

    return patient


def main() -> None:
    """Start machines and kill them as standard input says, until it ends."""
    die_with_parent(last=signal.SIGTERM)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # Ray prints there.
    os.dup2(2, 1)
    from ray._private import services
    from ray.cluster_utils import Cluster

    services.get_node = _patient(services.get_node)
    options: dict[str, Any] = {
        "num_cpus": 1,
        "memory": _MEMORY_BYTES,
        "object_store_memory": 80 << 20,
        "node_ip_address": _LOOPBACK,
    }
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=options | _BARE)
    others: dict[str, Any] = {}
    for line in sys.stdin:
        answer: list[str] = []
        match json.loads(line):
            case ["head"]:
                answer = [cluster.address, cluster.head_node.node_id]
            case ["add"]:
                node = cluster.add_node(**options)
                others[node.node_id] = node
                answer = [node.node_id]
            case ["kill", name]:
                cluster.remove_node(others.pop(name), allow_graceful=False)
        answers.write(json.dumps(answer) + "\n")
    cluster.shutdown()


class Registered:
    """Takes every result."""

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        # The runner clears what is registered; the test wants to see it.
        await asyncio.to_thread(shutil.copytree, result, result.parents[2] / "results" / job.job)
        return f"sha256:{job.job}"


class AllHere:
    """Every base is on every machine."""

    def here(self, job: Job) -> bool:
        return True

    async def fetch(self, job: Job) -> None:
        raise AssertionError("nothing is fetched")


@dataclass(slots=True)
class Queue:
    """A trainer's queue, trained on a cluster."""

    database: Database
    jobs: Jobs
    executor: RayExecutor
    folder: Path
    _rung: asyncio.Event

    async def order(self, settings: Settings, **changes: Any) -> Job:
        """Queue a job."""
        changes = {"threads": 1, "job_bytes": 1 << 30, "base_bytes": 1 << 30} | changes
        key = IdempotencyKey("acme", "CreateJob", "", b"")
        return await self.jobs.create("acme", "ada", replace(ORDER, settings=settings, **changes), key)

    async def until(self, job: Job, holds: Callable[[Job], bool]) -> Job:
        """Wait until it holds of a job; return it."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not holds(now := await self.jobs.get(job.tenant, job.job)):
                assert now.state is not State.FAILED, f"{now.error_reason}: {now.error_message}"
                self._rung.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._rung.wait()
        return now

    async def events(self, job: Job, kind: EventKind) -> list[Event]:
        """What was told of it, of one kind."""
        events, _ = await self.jobs.events(job.tenant, job.job, 0, 100_000)
        return [event for event in events if event.kind is kind]

    def result(self, job: Job) -> Path:
        """The folder of its registered result."""
        return self.folder / "results" / job.job


@asynccontextmanager
async def queue_over(address: str, base: Path, rows: str, folder: Path) -> AsyncIterator[Queue]:
    """A trainer over the cluster at ``address``, whose jobs train on ``base`` with ``rows``."""
    data, jobs_dir, log = folder / "rows.jsonl", folder / "jobs", logger("trainer")
    await asyncio.to_thread(_write, data, rows)
    rung, wake = asyncio.Event(), Wake()

    def changed(_: str) -> None:
        rung.set()
        wake()

    @asynccontextmanager
    async def work(job: Job) -> AsyncIterator[Work]:
        digest = await asyncio.to_thread(read_digest, base)
        yield Work(
            str(base), "tiny", str(data), job.order.settings, threads=1, data_dir=str(folder), base_digest=digest
        )

    async with (
        connected(address) as connection,
        open_database(f"sqlite:///{folder}/t.db", "services.trainer.migrations") as database,
    ):
        await stored(database)
        jobs, leases, sweeps = jobs_in(database, changed), leases_in(database), sweeps_in(database, changed)
        machine = Machine("", leases.owner, memory_bytes=0, cores=0, stop_seconds=20.0, idle_seconds=60.0)
        executor = RayExecutor(connection, folder / "workers", machine, log)
        limits = Limits(max_crashes=4, restart_seconds=0.01, max_restart_seconds=0.1, plan_seconds=0.5)
        errands = Errands(
            jobs,
            Registered(),
            AllHere(),
            results_in(database, jobs_dir),
            lineage=sweeps.lineage,
            pause_after=limits.pause_after,
            done=wake,
            log=log,
        )
        runner = Runner(
            jobs,
            leases,
            reports_in(database),
            executor,
            errands,
            sweeps,
            Remains(jobs, jobs_dir, Retention(60.0, 1 << 30), now=time.time),
            folder=jobs_dir,
            needed=AllHere(),
            work=work,
            limits=limits,
            wake=wake,
            granted=Granted(1, {}, Policy(quantum_seconds=1.0)),
            meter=Meter(Telemetry(TrainerSettings(), "trainer")),
            log=log,
        )
        running = asyncio.create_task(runner.run())
        try:
            yield Queue(database, jobs, executor, folder, rung)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(content)


if __name__ == "__main__":
    main()
