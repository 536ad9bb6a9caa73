"""Training jobs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from trivium.trainer.v1 import training_pb2
from trivium.trainer.v1.training_pb2_grpc import TrainingServiceStub

from trivium_client import job_wire, nouns
from trivium_client.errors import RequestTimeoutError, TriviumError, UnavailableError
from trivium_client.transport import WATCH_PATIENCE_SECONDS, Transport, new_request_id

if TYPE_CHECKING:
    from trivium.trainer.v1.training_pb2_grpc import TrainingServiceAsyncStub

# Connecting, with the retries of the service config, takes less; a stream that stood longer did stand.
_CONNECTING_SECONDS = 10.0


class Jobs:
    """Training jobs; an accepted one is never lost."""

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
        base: str = "",
        alias: str = "",
        settings: nouns.TrainingSettings | None = None,
        validation_dataset: str = "",
        start_version: str = "",
        priority: str = "",
        deadline: datetime | None = None,
        depends_on: Sequence[str] = (),
        processes: int = 0,
        recipe: str = "",
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> nouns.Job:
        """Queue a job that ends in a version of `model`.

        `base` is base:NAME or base:NAME@VERSION; `alias` takes the version when the job succeeds; `validation_dataset` is
        evaluated on; `start_version` is MODEL@VERSION or a digest to go on from; `priority` is low, normal or high;
        `deadline` is aware; `depends_on` are jobs that must succeed first; `processes` train a full model together;
        `recipe` is where the settings came from; `labels` are words of yours that stay with the job.
        Raises ValueError for an unknown word, NotFoundError for what is named and is not there, OverloadedError with
        the arithmetic where the job needs more than the deployment has.
        """
        request = job_wire.order(
            model,
            dataset,
            base=base,
            alias=alias,
            settings=settings or nouns.TrainingSettings(),
            validation_dataset=validation_dataset,
            start_version=start_version,
            priority=priority,
            deadline=deadline,
            depends_on=depends_on,
            processes=processes,
            recipe=recipe,
            labels=labels or {},
        )
        request.request_id = request_id or new_request_id()
        response = await self._transport.call("trainer", self._stub().CreateJob, request)
        return job_wire.job(response.job)

    async def estimate(
        self,
        *,
        model: str,
        dataset: str,
        base: str = "",
        alias: str = "",
        settings: nouns.TrainingSettings | None = None,
        validation_dataset: str = "",
        start_version: str = "",
        priority: str = "",
        deadline: datetime | None = None,
        depends_on: Sequence[str] = (),
        processes: int = 0,
        recipe: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> nouns.JobEstimate:
        """What `create` of the same would cost in tokens, time and memory; nothing is queued.  Raises as `create`."""
        order = job_wire.order(
            model,
            dataset,
            base=base,
            alias=alias,
            settings=settings or nouns.TrainingSettings(),
            validation_dataset=validation_dataset,
            start_version=start_version,
            priority=priority,
            deadline=deadline,
            depends_on=depends_on,
            processes=processes,
            recipe=recipe,
            labels=labels or {},
        )
        request = training_pb2.EstimateJobRequest(job=order)
        return job_wire.estimate(await self._transport.call("trainer", self._stub().EstimateJob, request))

    async def get(self, job: str) -> nouns.Job:
        """One job.  Raises NotFoundError."""
        response = await self._transport.call("trainer", self._stub().GetJob, training_pb2.GetJobRequest(job=job))
        return job_wire.job(response.job)

    async def list(self) -> AsyncIterator[nouns.Job]:
        """Every job of the tenant, newest first."""
        request = training_pb2.ListJobsRequest()
        while True:
            page = await self._transport.call("trainer", self._stub().ListJobs, request)
            for item in page.jobs:
                yield job_wire.job(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def like(self, part: str) -> Sequence[nouns.Job]:
        """The jobs whose id begins or ends with `part`, newest first; the one alone whose whole id it is.

        Ids begin with the time of their making, so that jobs of one hour differ at the end.
        """
        found = []
        async for job in self.list():
            if job.job == part:
                return [job]
            if job.job.startswith(part) or job.job.endswith(part):
                found.append(job)
        return found

    async def cancel(self, job: str) -> nouns.Job:
        """Ask a job to end at its next step."""
        request = training_pb2.CancelJobRequest(job=job)
        response = await self._transport.call("trainer", self._stub().CancelJob, request)
        return job_wire.job(response.job)

    async def pause(self, job: str) -> nouns.Job:
        """Ask a job to stop, with a checkpoint, at its next step."""
        request = training_pb2.PauseJobRequest(job=job)
        response = await self._transport.call("trainer", self._stub().PauseJob, request)
        return job_wire.job(response.job)

    async def resume(self, job: str) -> nouns.Job:
        """Queue a paused job again."""
        request = training_pb2.ResumeJobRequest(job=job)
        response = await self._transport.call("trainer", self._stub().ResumeJob, request)
        return job_wire.job(response.job)

    async def checkpoints(self, job: str) -> Sequence[nouns.Checkpoint]:
        """The checkpoints of a job that are kept, newest first; none once it has succeeded.  Raises NotFoundError."""
        request = training_pb2.ListCheckpointsRequest(job=job)
        response = await self._transport.call("trainer", self._stub().ListCheckpoints, request)
        return [job_wire.checkpoint(item) for item in response.checkpoints]

    async def publish(
        self, job: str, *, step: int = 0, model: str = "", alias: str = "", request_id: str = ""
    ) -> nouns.PublishedCheckpoint:
        """Make a version of a job's checkpoint: that of `step`, 0 for the newest; `model` takes it, the job's if empty.

        Raises NotFoundError that says which checkpoints are kept, PreconditionError for one that no version can be made of.
        """
        request = training_pb2.PublishCheckpointRequest(
            job=job, step=step, model=model, alias=alias, request_id=request_id or new_request_id()
        )
        response = await self._transport.call("trainer", self._stub().PublishCheckpoint, request)
        return nouns.PublishedCheckpoint(version=response.version, step=response.step)

    async def watch(
        self,
        job: str,
        *,
        after_sequence: int = 0,
        lost: Callable[[TriviumError], None] | None = None,
        stands: Callable[[nouns.Job], None] | None = None,
        every_seconds: float = 2.0,
    ) -> AsyncGenerator[nouns.JobEvent]:
        """A job's events from the one after `after_sequence` until it ends.

        A trainer that restarts meanwhile is found again and no event is lost or repeated; `lost` hears each time why
        the connection ended.  `stands` hears the job as it is after every `every_seconds` without an event: its place
        in the queue, why it waits.  The synchronous twin calls both from a thread of its own.
        Raises UnavailableError when the trainer stays away for two minutes, or was never there.
        """
        heard = _Heard()
        telling = asyncio.create_task(self._tell(job, stands, every_seconds, heard)) if stands else None
        try:
            async for message in self._events(job, after_sequence, lost):
                heard.events += 1
                yield job_wire.job_event(message)
        finally:
            if telling is not None:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    async def _events(
        self, job: str, after_sequence: int, lost: Callable[[TriviumError], None] | None
    ) -> AsyncGenerator[training_pb2.JobEvent]:
        # Who has seen events of it reached it before.
        reached, away_since = after_sequence > 0, 0.0
        while True:
            begun = time.monotonic()
            request = training_pb2.WatchJobRequest(job=job, after_sequence=after_sequence)
            try:
                async for message in self._transport.stream("trainer", self._stub().WatchJob, request):
                    after_sequence = message.event.sequence
                    reached, away_since = True, 0.0
                    yield message.event
                return
            except (UnavailableError, RequestTimeoutError) as error:
                now = time.monotonic()
                if now - begun > _CONNECTING_SECONDS:
                    # It stood, and a job that waits has nothing to say.
                    reached, away_since = True, 0.0
                away_since = away_since or now
                # Somebody who was never there is not waited for; somebody who went away is.
                if not reached or now - away_since > WATCH_PATIENCE_SECONDS:
                    raise
                if lost is not None:
                    lost(error)
            await asyncio.sleep(random.uniform(0.2, 2.0))

    async def _tell(self, job: str, stands: Callable[[nouns.Job], None], every_seconds: float, heard: _Heard) -> None:
        while True:
            before = heard.events
            await asyncio.sleep(every_seconds)
            if heard.events == before:
                # A trainer that is away is waited for by the watch.
                with contextlib.suppress(UnavailableError, RequestTimeoutError):
                    stands(await self.get(job))

    async def wait(self, job: str, *, progress: Callable[[nouns.JobEvent], None] | None = None) -> nouns.Job:
        """Return the job once it has ended, whatever its end; `progress` hears every event."""
        async for event in self.watch(job):
            if progress is not None:
                progress(event)
        return await self.get(job)


@dataclass(slots=True)
class _Heard:
    """How many events a watch has told."""

    events: int = 0
