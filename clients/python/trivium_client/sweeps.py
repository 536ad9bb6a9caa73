"""Searches over settings, and settings by name for a purpose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Unpack

from trivium.trainer.v1 import training_pb2
from trivium.trainer.v1.training_pb2_grpc import TrainingServiceStub

from trivium_client import job_wire, nouns
from trivium_client.errors import RequestTimeoutError, UnavailableError
from trivium_client.transport import WATCH_PATIENCE_SECONDS, Transport, new_request_id

if TYPE_CHECKING:
    from trivium.trainer.v1.training_pb2_grpc import TrainingServiceAsyncStub


class Sweeps:
    """Searches over settings, whose members train together and whose best becomes the version."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> TrainingServiceAsyncStub:
        stub: TrainingServiceAsyncStub = self._transport.stub("trainer", TrainingServiceStub)
        return stub

    async def create(
        self,
        *,
        model: str,
        dataset: str,
        axes: Iterable[nouns.SweepAxis] = (),
        members: Iterable[nouns.TrainingSettings] = (),
        random_members: int = 0,
        rungs: Sequence[float] = (),
        kept_ratio: float | None = None,
        request_id: str = "",
        **fields: Unpack[nouns.JobFields],
    ) -> nouns.Sweep:
        """Queue a search: either `members`, written out, or `axes` around `settings`.

        `random_members` draws as many from the axes, 0 takes the whole grid; at each of the `rungs`, shares of the
        steps such as 0.25 and 0.5, only `kept_ratio` of the members goes on.  Raises as `Jobs.create`.
        """
        request = job_wire.searched(axes, members, random_members, rungs, kept_ratio)
        request.job.CopyFrom(job_wire.order(model, dataset, **fields))
        request.request_id = request_id or new_request_id()
        response = await self._transport.call("trainer", self._stub().CreateSweep, request)
        return job_wire.sweep(response.sweep)

    async def estimate(
        self,
        *,
        model: str,
        dataset: str,
        axes: Iterable[nouns.SweepAxis] = (),
        members: Iterable[nouns.TrainingSettings] = (),
        random_members: int = 0,
        rungs: Sequence[float] = (),
        kept_ratio: float | None = None,
        **fields: Unpack[nouns.JobFields],
    ) -> nouns.SweepEstimate:
        """What `create` of the same would cost in tokens, time and memory; nothing is queued.  Raises as `create`."""
        request = training_pb2.EstimateSweepRequest(
            sweep=job_wire.searched(axes, members, random_members, rungs, kept_ratio)
        )
        request.sweep.job.CopyFrom(job_wire.order(model, dataset, **fields))
        return job_wire.sweep_estimate(await self._transport.call("trainer", self._stub().EstimateSweep, request))

    async def get(self, sweep: str) -> nouns.Sweep:
        """One sweep with the table of its members.  Raises NotFoundError."""
        request = training_pb2.GetSweepRequest(sweep=sweep)
        response = await self._transport.call("trainer", self._stub().GetSweep, request)
        return job_wire.sweep(response.sweep)

    async def list(self) -> AsyncIterator[nouns.Sweep]:
        """Every sweep of the tenant, newest first."""
        request = training_pb2.ListSweepsRequest()
        while True:
            page = await self._transport.call("trainer", self._stub().ListSweeps, request)
            for item in page.sweeps:
                yield job_wire.sweep(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def like(self, part: str) -> Sequence[nouns.Sweep]:
        """The sweeps whose id begins or ends with `part`, newest first; the one alone whose whole id it is."""
        found = []
        async for sweep in self.list():
            if sweep.sweep == part:
                return [sweep]
            if sweep.sweep.startswith(part) or sweep.sweep.endswith(part):
                found.append(sweep)
        return found

    async def cancel(self, sweep: str) -> nouns.Sweep:
        """Ask a sweep and its members to end.  Raises NotFoundError, PreconditionError for one that has ended."""
        request = training_pb2.CancelSweepRequest(sweep=sweep)
        response = await self._transport.call("trainer", self._stub().CancelSweep, request)
        return job_wire.sweep(response.sweep)

    async def watch(self, sweep: str, *, every_seconds: float = 1.0) -> AsyncGenerator[nouns.Sweep]:
        """The sweep as it is, then whenever a member got further, until it ends; looked at `every_seconds`.

        A trainer that restarts meanwhile is waited for.  Raises NotFoundError, UnavailableError when it stays away for two
        minutes, or was never there.
        """
        last: nouns.Sweep | None = None
        answered_at = 0.0
        while last is None or last.state == "running":
            try:
                now = await self.get(sweep)
            except (UnavailableError, RequestTimeoutError):
                if last is None or time.monotonic() - answered_at > WATCH_PATIENCE_SECONDS:
                    raise
            else:
                answered_at = time.monotonic()
                if last is None or (now.state, now.table) != (last.state, last.table):
                    yield now
                last = now
            if last is None or last.state == "running":
                await asyncio.sleep(every_seconds)


class Recipes:
    """Settings by name for a purpose."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> Sequence[nouns.Recipe]:
        """Every recipe, each with a paragraph on when to use it."""
        stub: TrainingServiceAsyncStub = self._transport.stub("trainer", TrainingServiceStub)
        response = await self._transport.call("trainer", stub.ListRecipes, training_pb2.ListRecipesRequest())
        return [job_wire.recipe(item) for item in response.recipes]

    async def fill(self, recipe: str, dataset: str, *, choice: str = "", model: str = "") -> nouns.FilledRecipe:
        """Fill in an order for a dataset, with the reasons; nothing is queued: `jobs.create(**filled.order())` does that.

        Raises NotFoundError, and PreconditionError that names the field which the dataset's rows lack.
        """
        stub: TrainingServiceAsyncStub = self._transport.stub("trainer", TrainingServiceStub)
        request = training_pb2.FillRecipeRequest(recipe=recipe, dataset=dataset, choice=choice, model=model)
        response = await self._transport.call("trainer", stub.FillRecipe, request)
        return job_wire.filled_recipe(response)
