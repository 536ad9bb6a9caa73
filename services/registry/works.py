"""Work that outlasts a call: it goes on when the caller's deadline comes, and a repeated request joins it.

Invariant: one piece of work has one run, however often and at whichever replica it is asked for, and what a run
ended with is told to whoever asks next.  A kill ends every run; the next repeat begins anew, on what the last run
left that is whole.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.registry.leases import Leases

T = TypeVar("T")

# How long an end that nobody has heard is kept.
_KEPT_SECONDS = 600.0
# Who does the work elsewhere tells how far it is about so often.
_ELSEWHERE_SECONDS = 1.0


@dataclass(slots=True)
class Progress:
    """How far a run has come, in its own words."""

    said: str = "begun"

    def say(self, text: str) -> None:
        """Replace what is told to those who ask."""
        self.said = text


@dataclass(slots=True)
class _Run:
    task: asyncio.Task[Any]
    progress: Progress
    # What each request that joined and has not heard the end asks, by its id.
    asked: dict[str, bytes] = field(default_factory=dict)
    # Somebody heard the end: it is news to none but those above.
    heard: bool = False


_Name = tuple[str, str, str]


class Works:
    """The runs of this process; a call waits ``patience_seconds`` for one before it is told how far it has come.

    Without ``leases`` no other process does such work.
    """

    def __init__(self, patience_seconds: float, leases: Leases | None = None, at_a_time: int = 2) -> None:
        self._patience_seconds = patience_seconds
        self._leases = leases
        self._places = _Places(at_a_time)
        self._runs: dict[_Name, _Run] = {}
        self._ended: Callable[[], None] = lambda: None

    def tell(self, ended: Callable[[], None]) -> None:
        """Call ``ended`` after every run: who began it may have gone away since."""
        self._ended = ended

    async def join(
        self,
        key: IdempotencyKey,
        what: str,
        begin: Callable[[Progress], Coroutine[Any, Any, T]],
        *,
        work: str = "",
        patience_seconds: float | None = None,
    ) -> T:
        """What ``begin`` returns: begun now, or under way since an earlier request.

        A request joins its own repeats; with ``work``, which names what is done in this tenant, every request for the
        same.  Raises what ``begin`` raises, WORK_UNDER_WAY when it takes longer than the patience or is done by
        another replica, REQUEST_ID_REUSED.
        """
        self._require_same(key)
        name = (key.tenant, key.method, work or key.request_id or key.fingerprint.hex())
        run = self._runs.get(name)
        if run is None or (run.heard and key.request_id not in run.asked):
            run = self._start(name, what, begin)
        if key.request_id:
            run.asked[key.request_id] = key.fingerprint
        done, _ = await asyncio.wait([run.task], timeout=patience_seconds or self._patience_seconds)
        if not done:
            raise Failure(Reason.WORK_UNDER_WAY, retry_after_seconds=0.1, what=what, progress=run.progress.said)
        run.heard = True
        run.asked.pop(key.request_id, None)
        if not run.asked:
            self._forget(name, run)
        found: T = run.task.result()
        return found

    def _require_same(self, key: IdempotencyKey) -> None:
        for (tenant, method, _), run in self._runs.items():
            asked = run.asked.get(key.request_id, key.fingerprint)
            if (tenant, method) == (key.tenant, key.method) and asked != key.fingerprint:
                raise Failure(Reason.REQUEST_ID_REUSED, request_id=key.request_id, field="request_id")

    def _start(self, name: _Name, what: str, begin: Callable[[Progress], Coroutine[Any, Any, Any]]) -> _Run:
        progress = Progress("waiting for its turn")

        async def work() -> Any:
            async with self._alone(name, what, progress), self._places.taken(name[0]):
                return await begin(progress)

        run = _Run(asyncio.create_task(work(), name=f"work {name[1]}"), progress)
        self._runs[name] = run
        loop = asyncio.get_running_loop()
        run.task.add_done_callback(lambda _: self._ended())
        run.task.add_done_callback(lambda _: loop.call_later(_KEPT_SECONDS, self._forget, name, run))
        return run

    @asynccontextmanager
    async def _alone(self, name: _Name, what: str, progress: Progress) -> AsyncIterator[None]:
        """Raise WORK_UNDER_WAY when another replica does this work."""
        if self._leases is None:
            yield
            return
        tenant, *work = name
        async with self._leases.held(tenant, json.dumps(work), lambda: progress.said) as elsewhere:
            if elsewhere is not None:
                after = _ELSEWHERE_SECONDS
                raise Failure(Reason.WORK_UNDER_WAY, retry_after_seconds=after, what=what, progress=elsewhere)
            yield

    def _forget(self, name: _Name, run: _Run) -> None:
        if self._runs.get(name) is run:
            del self._runs[name]
        if run.task.done() and not run.task.cancelled():
            # Looked at, so that the loop does not call an end that nobody waited for forgotten.
            run.task.exception()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End every run where it stands."""
        runs = [run.task for run in self._runs.values()]
        for task in runs:
            task.cancel()
        if runs:
            await asyncio.wait(runs)


class _Places:
    """So many at a time; of those who wait, one of the tenant with the fewest under way is next, then who came first."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._taken: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}

    @asynccontextmanager
    async def taken(self, tenant: str) -> AsyncIterator[None]:
        """Have a place inside the block; wait for one."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = tenant
        self._admit()
        try:
            await turn
            yield
        finally:
            if self._waiting.pop(turn, None) is None:
                self._free += 1
                self._taken[tenant] -= 1
            self._admit()

    def _admit(self) -> None:
        # One that was cancelled has not left yet.
        waiting = [turn for turn in self._waiting if not turn.done()]
        while self._free and waiting:
            turn = min(waiting, key=lambda turn: self._taken[self._waiting[turn]])
            waiting.remove(turn)
            self._free -= 1
            self._taken[self._waiting.pop(turn)] += 1
            turn.set_result(None)
