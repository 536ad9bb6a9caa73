"""Runs batches in the background: takes those that nobody runs, checks, asks, writes, and goes on where a kill left off.

Invariant: whatever ends a run, the batch goes on from its durable results, here or on another replica.  A failure of
one batch ends neither the process nor the others.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from services.chassis.blobs import Blobs
from services.chassis.errors import Code, Failure
from services.chassis.logs import Log
from services.files.batches.asking import Asking, Door, Unauthorized, ask
from services.files.batches.batch import Creator, Problem, State
from services.files.batches.lines import Request, checked, requests
from services.files.batches.outputs import Outputs
from services.files.batches.pace import Pace
from services.files.batches.runs import Run, Runs, Superseded
from services.files.batches.slots import Slot, Slots

# What access says of a tenant or a principal for good.
_FINAL = {Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT}
# After an attempt that was interrupted, before its batch is tried again.
_AGAIN_SECONDS = 5.0


class Acting(Protocol):
    """Somebody's assertion, kept valid."""

    @property
    def assertion(self) -> str:
        """The assertion as it is now."""


ActingFor = Callable[[str, Creator], AbstractAsyncContextManager[Acting]]


@dataclass(frozen=True, slots=True)
class Means:
    """By what batches are run; ``acting_for(tenant, creator)`` opens work on somebody's behalf, with their rights."""

    runs: Runs
    outputs: Outputs
    blobs: Blobs
    door: Door
    pace: Pace
    acting_for: ActingFor


@dataclass(frozen=True, slots=True)
class Measures:
    """How many batches a replica runs at a time, requests of one that wait at a time, how often it looks and renews.

    A batch that only waits makes room for another after ``stay_seconds``.
    """

    batches: int
    requests: int
    look_seconds: float
    renew_seconds: float
    stay_seconds: float


@dataclass(frozen=True, slots=True)
class Clocks:
    """Unix seconds, and seconds that never go back."""

    now: Callable[[], float]
    monotonic: Callable[[], float]


class Runner:
    """The background of one replica."""

    def __init__(
        self, means: Means, measures: Measures, clocks: Clocks, log: Log, *, again_seconds: float = _AGAIN_SECONDS
    ) -> None:
        self._means = means
        self._measures = measures
        self._clocks = clocks
        self._log = log
        self._slots = Slots(measures.batches, measures.stay_seconds, means.pace, clocks.monotonic)
        self._woken = asyncio.Event()
        self._again_seconds = again_seconds

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    async def run(self) -> None:
        """Take batches for as long as the service lives."""
        async with asyncio.TaskGroup() as attempts:
            while True:
                self._woken.clear()
                await self._take(attempts)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._measures.look_seconds):
                        await self._woken.wait()

    async def _take(self, attempts: asyncio.TaskGroup) -> None:
        slots = self._slots
        try:
            while not slots.full or slots.idle() is not None:
                run = await self._means.runs.claim(slots.batches, slots.turns())
                if run is None:
                    return
                # Chosen now, as it may have gone on since: then there is one more, until one ends, and none is asked twice.
                idle = slots.idle() if slots.full else None
                if idle is not None:
                    self._log.info("batch_set_aside", batch=idle.run.batch.batch, tenant_id=idle.run.batch.tenant)
                    idle.set_aside()
                slot = slots.take(run)
                slot.task = attempts.create_task(self._attempt(slot), name=run.batch.batch)
        except Failure as failure:
            self._log.warning("batches_not_taken", reason=failure.reason.name)

    async def _attempt(self, slot: Slot) -> None:
        """One run, whatever it ends with; a batch that is not at its end is taken again."""
        batch = slot.run.batch
        try:
            await self._whole(slot)
            self._log.info("batch_ended", batch=batch.batch, tenant_id=batch.tenant)
        except Superseded:
            self._log.info("batch_superseded", batch=batch.batch, tenant_id=batch.tenant)
        except (Failure, OSError, Unauthorized) as error:
            self._log.warning("batch_interrupted", batch=batch.batch, tenant_id=batch.tenant, exc_info=error)
            await asyncio.sleep(self._again_seconds)
        finally:
            self._slots.leave(slot)
            self.wake()

    async def _whole(self, slot: Slot) -> None:
        run = slot.run
        ending = await self._watched(run, self._asked(slot), cancellable=True)
        if ending is not None:
            await self._watched(run, self._written(run, ending), cancellable=False)

    async def _watched(self, run: Run, work: Coroutine[Any, Any, State | None], *, cancellable: bool) -> State | None:
        """Work under the lease, which is held on; given up when the lease is lost or somebody cancels the batch."""
        task = asyncio.create_task(work)
        renewed_at = self._clocks.monotonic()
        try:
            while not (await asyncio.wait([task], timeout=self._measures.look_seconds))[0]:
                if self._clocks.monotonic() - renewed_at >= self._measures.renew_seconds:
                    state = await self._means.runs.renew(run)
                    renewed_at = self._clocks.monotonic()
                else:
                    state = await self._means.runs.state(run)
                if cancellable and state is State.CANCELLING:
                    return State.CANCELLED
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _written(self, run: Run, ending: State) -> None:
        await self._means.outputs.end(run, await self._means.runs.finalize(run, ending))

    async def _asked(self, slot: Slot) -> State | None:
        """Check and ask as far as that is to be done; as what the batch ends, None for one that has failed."""
        batch = slot.run.batch
        if batch.ending is not None:
            return batch.ending
        if batch.state is State.CANCELLING:
            return State.CANCELLED
        state = await self._begun(slot.run)
        if state is not State.IN_PROGRESS:
            return State.CANCELLED if state is State.CANCELLING else None
        window = asyncio.timeout(max(0.0, batch.expires_at - self._clocks.now()))
        try:
            async with window:
                return await self._all(slot)
        except TimeoutError:
            # A peer's may come out of it too, and ends no window.
            if not window.expired():
                raise
            return State.EXPIRED

    async def _begun(self, run: Run) -> State:
        """Check the input, once in a batch's life; the state that it is in then."""
        batch = run.batch
        if batch.state is not State.VALIDATING:
            return batch.state
        content = self._means.blobs.read(batch.input_sha256, 0)
        return await self._means.runs.begin(run, await checked(content, batch.order.endpoint))

    async def _all(self, slot: Slot) -> State | None:
        """Ask every line that has no result.  Raises Superseded, Unauthorized, Failure."""
        batch = slot.run.batch
        try:
            async with self._means.acting_for(batch.tenant, batch.creator) as acting:
                await self._lines(slot, acting)
        except Failure as failure:
            if failure.code not in _FINAL:
                raise
            await self._means.runs.fail(slot.run, Problem(failure.reason.name.lower(), failure.sentence))
            return None
        return State.COMPLETED

    async def _lines(self, slot: Slot, acting: Acting) -> None:
        by = Asking(self._means.door, self._means.pace, slot.activity, lambda: acting.assertion)
        try:
            with ExitStack() as handed_out:
                async with asyncio.TaskGroup() as asking:
                    await self._hand_out(slot, by, asking)
                    handed_out.enter_context(slot.activity.waiting())
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors

    async def _hand_out(self, slot: Slot, by: Asking, asking: asyncio.TaskGroup) -> None:
        """Have every line without a result asked, so many at a time."""
        batch, blobs = slot.run.batch, self._means.blobs
        places = asyncio.Semaphore(self._measures.requests)
        done = await self._means.runs.done(batch)
        async for request in requests(blobs.read(batch.input_sha256, 0), batch.order.endpoint, done):
            if isinstance(request, Request):
                with slot.activity.waiting():
                    await places.acquire()
                part = ExitStack()
                part.callback(places.release)
                part.enter_context(slot.activity.going())
                asking.create_task(self._one(slot.run, by, request, part))

    async def _one(self, run: Run, by: Asking, request: Request, part: ExitStack) -> None:
        with part:
            await self._means.runs.record(run, await ask(by, run.batch, request))


def _first(error: BaseException) -> BaseException:
    """The first that was no consequence of another."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
