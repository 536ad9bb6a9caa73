"""Versions of checkpoints, made while their jobs go on as they would.

Invariants: what a version is made of was linked before anything else, so neither a newer checkpoint nor the job's end
takes it away; it was verified as linked; what was begun comes to its end when its caller leaves, so that a repeat
finds the version and makes no second one; and what a tenant has under way is bounded, with the disk that it holds, and
keeps no other tenant's waiting for more than one of its own.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from services.chassis import processes
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once, seen
from services.chassis.logs import Log
from services.trainer import checkpoints, exports
from services.trainer.base_folder import require_unchanged
from services.trainer.checkpoints import Checkpoint
from services.trainer.job import Job, Move
from services.trainer.jobs import Jobs
from services.trainer.publisher import Publisher, PublishPostponed, PublishRefused
from services.trainer.work import CHECKPOINTS, RESULT, Exit, Line, Work

_CHILD = "services.trainer.export_child"
_RETRY_SECONDS = 1.0
# Versions that a tenant has under way: each holds a checkpoint on the disk that its job may have removed since.
_TENANT_PUBLICATIONS = 8
_RETRY_BOUND_SECONDS = 5.0
# Of a digest, in the mark by which the registry tells versions of one job apart.
_DIGEST_LETTERS = 19


class Bases(Protocol):
    """The bases, of whose files a full model takes some."""

    def here(self, job: Job) -> bool:
        """Whether the job's is on this machine."""

    async def fetch(self, job: Job) -> None:
        """Bring it here."""

    def work(
        self, job: Job, dataset_path: str, validation_path: str, start_path: str
    ) -> AbstractAsyncContextManager[Work]:
        """Inside the block the base stays where the order says."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which checkpoint of which job, 0 for the newest; the model that takes the version, empty for the job's; an alias."""

    job: str
    step: int = 0
    model: str = ""
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """The version, and after how many steps its weights are."""

    version: str
    step: int


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of one disk: of the jobs, and of what is being published."""

    jobs: Path
    publications: Path


class Publications:
    """The verb.  One version at a time is made ready, since a full model fills memory; tenants take turns.

    ``lineage`` returns what a version keeps of its job beside the settings; ``places`` are folders of one disk.
    """

    def __init__(
        self,
        database: Database,
        jobs: Jobs,
        publisher: Publisher,
        bases: Bases,
        places: Places,
        *,
        lineage: Callable[[Job], Mapping[str, object]],
        blocking: Callable[..., Awaitable[Any]],
        new_id: Callable[[], str],
        log: Log,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._publisher = publisher
        self._bases = bases
        self._places = places
        self._lineage = lineage
        self._blocking = blocking
        self._new_id = new_id
        self._log = log
        self._turn = asyncio.Semaphore(1)
        # A tenant waits for the turn with one version at a time.
        self._tenants: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._under_way: dict[tuple[object, ...], asyncio.Task[Published]] = {}

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """When the block ends, so does what is under way; a caller that repeats its request begins it again.

        What is there at its beginning was left by a trainer that was killed: a folder has one (`sole_process`).
        """
        await self._blocking(partial(shutil.rmtree, self._places.publications, ignore_errors=True))
        try:
            yield
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(self, tenant: str, principal: str, wanted: Wanted, key: IdempotencyKey) -> Published:
        """Make a version of a checkpoint, or return the one that was made of it for the same request.

        Raises JOB_NOT_FOUND, CHECKPOINT_NOT_FOUND, CHECKPOINT_UNFIT, DISK_FULL, PUBLICATIONS_EXHAUSTED,
        REQUEST_ID_REUSED, PEER_UNAVAILABLE, BASE_NOT_FOUND and BASE_CHANGED for a full model, and what the registry
        refuses a version with.
        """
        job = await self._jobs.get(tenant, wanted.job)
        known = await self._database.read(lambda session: seen(session, key))
        if known is not None:
            return Published(**json.loads(known))
        # The newest is another a moment later, so a repeated request waits for its own.
        mark: tuple[object, ...] = (tenant, key.request_id, key.fingerprint) if key.request_id else (tenant, wanted)
        task = self._under_way.get(mark)
        if task is None:
            if sum(other[0] == tenant for other in self._under_way) >= _TENANT_PUBLICATIONS:
                limit = _TENANT_PUBLICATIONS
                raise Failure(Reason.PUBLICATIONS_EXHAUSTED, limit=limit, retry_after_seconds=_RETRY_BOUND_SECONDS)
            task = asyncio.create_task(self._settled(replace(job, principal=principal), wanted, key))
            self._under_way[mark] = task
            task.add_done_callback(lambda done: self._ended(mark, done))
        # The caller may leave, and not take along what others may be waiting for.
        return await asyncio.shield(task)

    def _ended(self, mark: tuple[object, ...], task: asyncio.Task[Published]) -> None:
        del self._under_way[mark]
        # A failure of the catalogue is the caller's answer; the log has what else went wrong, also when the caller left.
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Failure):
            self._log.warning("publication_failed", exc_info=error)

    async def _settled(self, job: Job, wanted: Wanted, key: IdempotencyKey) -> Published:
        made = await self._made(job, wanted)
        stored = await self._database.write(lambda session: once(session, key, lambda: json.dumps(asdict(made))))
        return Published(**json.loads(stored))

    async def _made(self, job: Job, wanted: Wanted) -> Published:
        if not job.state.keeps_checkpoints:
            raise _missing(job, wanted.step, f"none: its result is the version {job.version}")
        async with self._linked(job, wanted.step) as checkpoint:
            step = checkpoint.progress.step
            taken = replace(
                job,
                progress=checkpoint.progress,
                order=replace(job.order, model=wanted.model or job.order.model, alias=wanted.alias),
            )
            tenants = self._tenants.setdefault(job.tenant, asyncio.Lock())
            async with tenants, self._turn:
                await self._export(taken, checkpoint)
            version = await self._register(taken, checkpoint)
        made = f"the checkpoint of step {step} was registered as {version} of the model {taken.order.model}"
        await self._jobs.decide(job, lambda now: Move(now.state, made))
        self._log.info("checkpoint_published", job=job.job, step=step, version=version)
        return Published(version, step)

    @asynccontextmanager
    async def _linked(self, job: Job, step: int) -> AsyncIterator[Checkpoint]:
        """The checkpoint, in a folder of its own for as long as the block lasts."""
        folder = self._places.publications / self._new_id()
        root = self._places.jobs / job.job / CHECKPOINTS
        try:
            found = await self._blocking(checkpoints.link, root, folder, step)
            if found is None:
                raise _missing(job, step, await self._keeps(job, root))
            if exports.exported(found) is None:
                problem = "an earlier release wrote it; have the job go on, and publish the next one that it writes"
                raise Failure(Reason.CHECKPOINT_UNFIT, step=found.progress.step, problem=problem)
            if not found.progress.step:
                problem = "nothing is trained yet; publish one after a step"
                raise Failure(Reason.CHECKPOINT_UNFIT, step=0, problem=problem)
            yield found
        finally:
            await self._blocking(partial(shutil.rmtree, folder, ignore_errors=True))

    async def _keeps(self, job: Job, root: Path) -> str:
        """Which checkpoints there are instead of the one that is not, in words."""
        kept = [str(found.progress.step) for found in await self._blocking(checkpoints.kept, root)]
        if kept:
            return f"those of the steps {', '.join(kept)}"
        if job.state.finished:
            return "none: what it left was removed, or it had written none"
        return f"none yet: it writes one after every {job.order.settings.checkpoint_steps} steps, and when it is paused"

    async def _export(self, job: Job, checkpoint: Checkpoint) -> None:
        """Write the version's files beside the checkpoint.  Raises DISK_FULL, and as fetching the base does."""
        if job.order.settings.method.makes_adapter:
            await self._run(checkpoint.folder.parent, "-")
            return
        if not self._bases.here(job):
            await self._bases.fetch(job)
        async with self._bases.work(job, "", "", "") as work:
            await self._blocking(require_unchanged, Path(work.base_folder), work.base_name, work.base_digest)
            await self._run(checkpoint.folder.parent, work.base_folder)

    async def _run(self, folder: Path, base: str) -> None:
        with (folder / "process.log").open("ab") as log:
            child = await processes.spawn(
                [sys.executable, "-m", _CHILD, folder, base],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        try:
            assert child.process.stdout is not None
            said = await child.process.stdout.read()
            status = await child.wait()
        except BaseException:
            await child.kill()
            raise
        if status == Exit.DONE:
            return
        line = Line.decode(said.splitlines()[0]) if said else None
        if line is not None and line.reason == Reason.DISK_FULL.name:
            raise Failure(Reason.DISK_FULL, what="the training jobs")
        tail = (await self._blocking((folder / "process.log").read_text))[-2000:]
        self._log.error("export_failed", status=status, said=tail)
        raise Failure(Reason.INTERNAL)

    async def _register(self, job: Job, checkpoint: Checkpoint) -> str:
        lineage = {
            **self._lineage(job),
            "checkpoint": {"step": checkpoint.progress.step, "digest": checkpoint.digest},
        }
        mark = f"-{job.order.model}-{checkpoint.progress.step}-{checkpoint.digest[-_DIGEST_LETTERS:]}-{job.order.alias}"
        try:
            return await self._publisher.publish(job, checkpoint.folder.parent / RESULT, lineage, mark)
        except PublishPostponed as why:
            self._log.warning("publication_postponed", job=job.job, why=str(why))
            raise Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=_RETRY_SECONDS, service="registry") from why
        except PublishRefused as refusal:
            raise refusal.failure from refusal


def _missing(job: Job, step: int, kept: str) -> Failure:
    return Failure(Reason.CHECKPOINT_NOT_FOUND, name=job.job, step=f" of step {step}" if step else "", kept=kept)
