"""What is done for jobs beside their training: bases are fetched before it, versions are registered after it.

Invariants: an errand is run once at a time for a job, however often it is asked for, and until it is done or refused;
and no tenant's fetches, however slow or often tried again, keep another's from being begun.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from services.chassis.errors import Code, Failure
from services.chassis.logs import Log
from services.trainer import moves
from services.trainer.job import Job, Move, State
from services.trainer.jobs import Jobs
from services.trainer.lost_results import Results
from services.trainer.outages import Patience
from services.trainer.publisher import Publisher, PublishPostponed, PublishRefused

# Fetches at the same time, in all and of one tenant's jobs; more would only share the same wire and disk.
_FETCHES = 3
_TENANT_FETCHES = 2
# What says nothing about the job: tried again.
PASSING = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.CANCELLED, Code.UNAUTHENTICATED})


class Prerequisite(Protocol):
    """Something that must be on this machine before a job trains."""

    def here(self, job: Job) -> bool:
        """Whether it is."""

    async def fetch(self, job: Job) -> None:
        """Bring it here.  Raises what says that this will never be, or not now."""


class Prerequisites:
    """Several of them, as one."""

    def __init__(self, *parts: Prerequisite) -> None:
        self._parts = parts

    def here(self, job: Job) -> bool:
        """As Prerequisite.here, of all."""
        return all(part.here(job) for part in self._parts)

    async def fetch(self, job: Job) -> None:
        """As Prerequisite.fetch, of each that is missing."""
        for part in self._parts:
            if not part.here(job):
                await part.fetch(job)


def unhindered(job: Job, outcomes: Mapping[str, State]) -> bool:
    """Whether all that the job was to follow has succeeded; ``outcomes`` says how jobs stand, by id."""
    return all(outcomes.get(name) is State.SUCCEEDED for name in job.order.depends_on)


def tried_again(until: float, now: float) -> str:
    """A clause for people: when something that failed is tried again (Unix seconds)."""
    return (
        f"it is tried again at {datetime.fromtimestamp(until, UTC):%H:%M:%S} UTC"
        if until > now
        else "it is tried again"
    )


@dataclass(frozen=True, slots=True)
class _Vain:
    """How often an errand of a job failed so far, when it is tried again (the loop's seconds, and Unix seconds), and why."""

    tries: int = 0
    next_at: float = 0.0
    until: float = 0.0
    why: str = ""


class Errands:
    """Runs them.

    ``lineage`` returns what a job's version is to keep beside its settings; ``pause_after`` says how many seconds to wait
    after so many vain tries; ``done`` is called after each errand, and when one may be tried again.
    """

    def __init__(
        self,
        jobs: Jobs,
        publisher: Publisher,
        needed: Prerequisite,
        results: Results,
        *,
        lineage: Callable[[Job], Awaitable[Mapping[str, object]]],
        pause_after: Callable[[int], float],
        done: Callable[[], None],
        log: Log,
    ) -> None:
        self._jobs = jobs
        self._publisher = publisher
        self._needed = needed
        self._results = results
        self._lineage = lineage
        self._pause_after = pause_after
        self._done = done
        self._log = log
        self._patiently = Patience(pause_after(1), log)
        # Errands and the jobs they are run for, with the tenants of these.
        self._under_way: dict[tuple[str, str], str] = {}
        self._vain: dict[str, _Vain] = {}
        # Registrations that were put off, by job.
        self._put_off: dict[str, _Vain] = {}
        # Tenants whose jobs had fetches, by how many had begun before the last one.
        self._turns: dict[str, int] = {}
        self._begun = 0
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self, group: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Inside the block errands may be run, in `group`."""
        self._group = group
        try:
            yield
        finally:
            self._group = None

    def see(self, jobs: Iterable[Job], outcomes: Mapping[str, State]) -> None:
        """Begin what these jobs need and nobody is about; ``outcomes`` says how those stand that others wait for."""
        fetching = [
            job
            for job in jobs
            if job.state in (State.QUEUED, State.RUNNING) and unhindered(job, outcomes) and not self._needed.here(job)
        ]
        self._fetch_some(fetching)
        for job in jobs:
            if job.state is not State.REGISTERING:
                continue
            # Another trainer's results lie on its own disk.
            if self._results.here(job):
                self._begin("register", job, self._register)
            elif self._results.lost(job):
                self._begin("train again", job, self._train_again)

    async def keep_results(self) -> None:
        """Say which results are here, so that nobody takes them for lost."""
        await self._results.keep([job for errand, job in self._under_way if errand == "register"])

    def fetching(self, job: Job, now: float) -> str:
        """What the owner of a job is told whose base, or whose earlier version, is not on this machine."""
        what = "its base or the version that it starts from" if job.order.start_version else "its base"
        if vain := self._vain.get(job.job):
            return f"{what} could not be fetched ({vain.why}); {tried_again(vain.until, now)}"
        if ("fetch", job.job) in self._under_way:
            return f"{what} is being fetched"
        return f"{what} is fetched when its turn comes: {_FETCHES} are at a time, of a tenant's jobs {_TENANT_FETCHES}"

    def registering(self, job: Job, now: float) -> str:
        """What the owner of a trained job is told whose version is not registered; empty while nothing is in the way."""
        if vain := self._put_off.get(job.job):
            return f"its version could not be registered yet ({vain.why}); {tried_again(vain.until, now)}"
        return "" if self._results.here(job) else self._results.missed(job)

    def _fetch_some(self, wanted: Sequence[Job]) -> None:
        """Give the free places to tenants in turn; those of one come in the order of the queue."""
        self._vain = {job.job: self._vain[job.job] for job in wanted if job.job in self._vain}
        self._turns = {job.tenant: self._turns.get(job.tenant, -1) for job in wanted}
        now = asyncio.get_running_loop().time()
        waiting = [
            job
            for job in wanted
            if ("fetch", job.job) not in self._under_way and self._vain.get(job.job, _Vain()).next_at <= now
        ]
        held = Counter(tenant for (errand, _), tenant in self._under_way.items() if errand == "fetch")
        for _ in range(_FETCHES - held.total()):
            able = [job for job in waiting if held[job.tenant] < _TENANT_FETCHES]
            if not able:
                return
            job = min(able, key=lambda job: (held[job.tenant], self._turns[job.tenant]))
            waiting.remove(job)
            held[job.tenant] += 1
            self._turns[job.tenant] = self._begun = self._begun + 1
            self._begin("fetch", job, self._fetch)

    def _begin(self, errand: str, job: Job, run: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
        mark = (errand, job.job)
        if self._group is not None and mark not in self._under_way:
            self._under_way[mark] = job.tenant
            self._group.create_task(run(job)).add_done_callback(lambda _: self._end(mark))

    def _end(self, mark: tuple[str, str]) -> None:
        del self._under_way[mark]
        self._done()

    async def _register(self, seen: Job) -> None:
        try:
            await self._register_at_last(seen)
        finally:
            self._put_off.pop(seen.job, None)

    async def _register_at_last(self, seen: Job) -> None:
        while True:
            # Whoever asks for it may have looked before another had been done; and while it waited, a result that nobody
            # was heard of for long may have been taken for lost, or be so.
            job = await self._patiently(partial(self._jobs.get, seen.tenant, seen.job))
            if not _awaited(job, seen) or not self._results.here(job):
                return
            try:
                kept = await self._lineage(job)
                version = await self._publisher.publish(job, self._results.path(job), kept)
            except PublishPostponed as why:
                await self._put_off_registration(job, str(why), str(why))
            except OSError as error:
                # The disk's faults are the operator's to mend: the job waits, and so does nobody else.
                await self._put_off_registration(job, str(error), _of_the_system(error))
            except Failure as failure:
                # Access or we ourselves are not ready: nothing that the job could be blamed for.
                await self._put_off_registration(job, failure.reason.name, failure.sentence)
            except PublishRefused as refusal:
                await self._decide(job, partial(_refused, seen, refusal))
                return
            else:
                await self._decide(job, partial(_succeeded, seen, version))
                return

    async def _put_off_registration(self, job: Job, logged: str, told: str) -> None:
        """Log why, and wait until it is time to try again; people are told why meanwhile."""
        tries = self._put_off.get(job.job, _Vain()).tries + 1
        self._log.warning("registration_postponed", job=job.job, tries=tries, why=logged)
        self._put_off[job.job] = self._vainly(tries, told)
        await asyncio.sleep(self._pause_after(tries))

    def _vainly(self, tries: int, told: str) -> _Vain:
        pause_seconds = self._pause_after(tries)
        next_at = asyncio.get_running_loop().time() + pause_seconds
        return _Vain(tries, next_at, time.time() + pause_seconds, told.rstrip("."))

    async def _train_again(self, job: Job) -> None:
        await self._patiently(partial(self._results.train_again, job))

    async def _fetch(self, job: Job) -> None:
        """Try to bring here what the job needs; what only passes is tried again after a pause, which holds no place."""
        if (await self._patiently(partial(self._jobs.get, job.tenant, job.job))).state.finished:
            # Whoever asks for it may have looked before it ended.
            return
        try:
            await self._needed.fetch(job)
        except OSError as error:
            # The disk's faults are the operator's to mend.
            self._postpone(job, str(error), _of_the_system(error))
        except Failure as failure:
            if failure.code in PASSING:
                self._postpone(job, failure.reason.name, failure.sentence)
            else:
                await self._refuse(job, failure.reason.name, failure.sentence)

    def _postpone(self, job: Job, logged: str, told: str) -> None:
        """Have the fetch tried again after a pause; people are told why meanwhile."""
        tries = self._vain.get(job.job, _Vain()).tries + 1
        self._log.warning("fetch_postponed", job=job.job, tries=tries, why=logged)
        self._vain[job.job] = vain = self._vainly(tries, told)
        asyncio.get_running_loop().call_at(vain.next_at, self._done)

    async def _refuse(self, job: Job, reason: str, message: str) -> None:
        await self._decide(job, lambda now: moves.refuse(now, reason, message))

    async def _decide(self, job: Job, choose: Callable[[Job], Move | None]) -> None:
        await self._patiently(partial(self._jobs.decide, job, choose))


def _of_the_system(error: OSError) -> str:
    """What an error of the system says without its path, which is the operator's business."""
    return f"the trainer's disk: {error.strerror or type(error).__name__}"


def _awaited(job: Job, seen: Job) -> bool:
    """Whether the job as it is waits for the result that was seen: it may be trained again by now."""
    return job.state is State.REGISTERING and job.lease.epoch == seen.lease.epoch


def _succeeded(seen: Job, version: str, job: Job) -> Move | None:
    move = Move(State.SUCCEEDED, f"registered as {version}", {"version": version})
    return move if _awaited(job, seen) else None


def _refused(seen: Job, refusal: PublishRefused, job: Job) -> Move | None:
    return moves.refuse(job, refusal.reason, str(refusal)) if _awaited(job, seen) else None
