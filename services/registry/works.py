"""Work that outlasts a call: it goes on when the caller's deadline comes, and a repeated request joins it.

Invariant: one request has one run here, however often it is repeated, and what a run ended with is told to
whoever asks next.  A kill ends every run; the next repeat begins anew, on what the last run left that is whole.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey

T = TypeVar("T")

# How long an end that nobody has heard is kept.
_KEPT_SECONDS = 600.0


@dataclass(slots=True)
class Progress:
    """How far a run has come, in its own words."""

    said: str = "begun"

    def say(self, text: str) -> None:
        """Replace what is told to those who ask."""
        self.said = text


@dataclass(slots=True)
class _Run:
    fingerprint: bytes
    task: asyncio.Task[Any]
    progress: Progress = field(default_factory=Progress)


class Works:
    """The runs of this process; a call waits ``patience_seconds`` for one before it is told how far it has come."""

    def __init__(self, patience_seconds: float, at_a_time: int = 2) -> None:
        self._patience_seconds = patience_seconds
        self._places = asyncio.Semaphore(at_a_time)
        self._runs: dict[tuple[str, str, str], _Run] = {}
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
        patience_seconds: float | None = None,
    ) -> T:
        """What ``begin`` returns: begun now, or under way since an earlier request of this key.

        Raises what it raises, WORK_UNDER_WAY when it takes longer than the patience, REQUEST_ID_REUSED.
        """
        name = (key.tenant, key.method, key.request_id or key.fingerprint.hex())
        run = self._runs.get(name)
        if run is None:
            run = self._start(name, key.fingerprint, begin)
        elif run.fingerprint != key.fingerprint:
            raise Failure(Reason.REQUEST_ID_REUSED, request_id=key.request_id, field="request_id")
        done, _ = await asyncio.wait([run.task], timeout=patience_seconds or self._patience_seconds)
        if not done:
            raise Failure(Reason.WORK_UNDER_WAY, retry_after_seconds=0.1, what=what, progress=run.progress.said)
        self._forget(name, run)
        found: T = run.task.result()
        return found

    def _start(
        self, name: tuple[str, str, str], fingerprint: bytes, begin: Callable[[Progress], Coroutine[Any, Any, Any]]
    ) -> _Run:
        progress = Progress("waiting for its turn")

        async def work() -> Any:
            async with self._places:
                return await begin(progress)

        run = _Run(fingerprint, asyncio.create_task(work(), name=f"work {name[1]}"), progress)
        self._runs[name] = run
        loop = asyncio.get_running_loop()
        run.task.add_done_callback(lambda _: self._ended())
        run.task.add_done_callback(lambda _: loop.call_later(_KEPT_SECONDS, self._forget, name, run))
        return run

    def _forget(self, name: tuple[str, str, str], run: _Run) -> None:
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
