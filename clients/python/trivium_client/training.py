"""Datasets and training jobs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trivium.common.v1 import transfer_pb2
from trivium.trainer.v1 import dataset_pb2, training_pb2
from trivium.trainer.v1.dataset_pb2_grpc import DatasetServiceStub
from trivium.trainer.v1.training_pb2_grpc import TrainingServiceStub

from trivium_client import nouns, training_wire
from trivium_client.errors import RequestTimeoutError, UnavailableError
from trivium_client.transport import WATCH_PATIENCE_SECONDS, Transport, new_request_id, upload

if TYPE_CHECKING:
    from trivium.trainer.v1.dataset_pb2_grpc import DatasetServiceAsyncStub
    from trivium.trainer.v1.training_pb2_grpc import TrainingServiceAsyncStub


class Datasets:
    """Immutable datasets, checked row by row before they are stored."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> DatasetServiceAsyncStub:
        stub: DatasetServiceAsyncStub = self._transport.stub("trainer", DatasetServiceStub)
        return stub

    async def upload(
        self, path: str | Path, *, name: str = "", progress: Callable[[int, int], None] | None = None
    ) -> nouns.Dataset:
        """Upload a JSON Lines file; an interrupted upload goes on where it stopped.

        Raises InvalidRequestError that names the lines which are wrong.
        """

        async def committed(sha256: str) -> int:
            request = dataset_pb2.GetDatasetUploadRequest(sha256=sha256)
            response = await self._transport.call("trainer", self._stub().GetDatasetUpload, request)
            return response.status.committed_bytes

        def frame(part: transfer_pb2.UploadHeader | transfer_pb2.Chunk) -> dataset_pb2.UploadDatasetRequest:
            if isinstance(part, transfer_pb2.Chunk):
                return dataset_pb2.UploadDatasetRequest(chunk=part)
            return dataset_pb2.UploadDatasetRequest(header=dataset_pb2.DatasetHeader(upload=part, dataset=name))

        response = await upload(
            self._transport,
            "trainer",
            Path(path),
            send=self._stub().UploadDataset,
            committed=committed,
            frame=frame,
            media_type="application/jsonl",
            progress=progress,
        )
        return training_wire.dataset(response.dataset)

    async def get(self, dataset: str) -> nouns.Dataset:
        """One dataset by id or digest.  Raises NotFoundError."""
        request = dataset_pb2.GetDatasetRequest(dataset=dataset)
        response = await self._transport.call("trainer", self._stub().GetDataset, request)
        return training_wire.dataset(response.dataset)

    async def list(self) -> AsyncIterator[nouns.Dataset]:
        """Every dataset of the tenant, newest first."""
        request = dataset_pb2.ListDatasetsRequest()
        while True:
            page = await self._transport.call("trainer", self._stub().ListDatasets, request)
            for item in page.datasets:
                yield training_wire.dataset(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def validate(self, dataset: str, *, max_row_tokens: int = 0) -> Sequence[nouns.DatasetProblem]:
        """Everything that is wrong with a dataset, by line."""
        request = dataset_pb2.ValidateDatasetRequest(dataset=dataset, max_row_tokens=max_row_tokens)
        response = await self._transport.call("trainer", self._stub().ValidateDataset, request)
        return [training_wire.problem(item) for item in response.problems]

    async def delete(self, dataset: str) -> None:
        """Delete a dataset.  Raises PreconditionError while an unfinished job uses it."""
        request = dataset_pb2.DeleteDatasetRequest(dataset=dataset)
        await self._transport.call("trainer", self._stub().DeleteDataset, request)


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
        alias: str = "",
        base: str = "",
        settings: nouns.TrainingSettings | None = None,
        request_id: str = "",
    ) -> nouns.Job:
        """Queue a job that ends in a version of `model`, and in `alias` moving to it when one is given."""
        request = training_pb2.CreateJobRequest(
            model=model,
            dataset=dataset,
            base=base,
            alias=alias,
            settings=training_wire.settings_to_wire(settings or nouns.TrainingSettings()),
            request_id=request_id or new_request_id(),
        )
        response = await self._transport.call("trainer", self._stub().CreateJob, request)
        return training_wire.job(response.job)

    async def get(self, job: str) -> nouns.Job:
        """One job.  Raises NotFoundError."""
        response = await self._transport.call("trainer", self._stub().GetJob, training_pb2.GetJobRequest(job=job))
        return training_wire.job(response.job)

    async def list(self) -> AsyncIterator[nouns.Job]:
        """Every job of the tenant, newest first."""
        request = training_pb2.ListJobsRequest()
        while True:
            page = await self._transport.call("trainer", self._stub().ListJobs, request)
            for item in page.jobs:
                yield training_wire.job(item)
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
        return training_wire.job(response.job)

    async def pause(self, job: str) -> nouns.Job:
        """Ask a job to stop, with a checkpoint, at its next step."""
        request = training_pb2.PauseJobRequest(job=job)
        response = await self._transport.call("trainer", self._stub().PauseJob, request)
        return training_wire.job(response.job)

    async def resume(self, job: str) -> nouns.Job:
        """Queue a paused job again."""
        request = training_pb2.ResumeJobRequest(job=job)
        response = await self._transport.call("trainer", self._stub().ResumeJob, request)
        return training_wire.job(response.job)

    async def watch(self, job: str, *, after_sequence: int = 0) -> AsyncIterator[nouns.JobEvent]:
        """A job's events from the one after `after_sequence` until it ends.

        A trainer that restarts meanwhile is found again and no event is lost or repeated.
        Raises UnavailableError when it stays away for two minutes.
        """
        # Somebody who was never there is not waited for; somebody who went away is.
        given_up_at = 0.0
        while True:
            request = training_pb2.WatchJobRequest(job=job, after_sequence=after_sequence)
            try:
                async for message in self._transport.stream("trainer", self._stub().WatchJob, request):
                    after_sequence = message.event.sequence
                    given_up_at = time.monotonic() + WATCH_PATIENCE_SECONDS
                    yield training_wire.job_event(message.event)
                return
            except (UnavailableError, RequestTimeoutError):
                if time.monotonic() > given_up_at:
                    raise
            await asyncio.sleep(random.uniform(0.2, 2.0))

    async def wait(self, job: str, *, progress: Callable[[nouns.JobEvent], None] | None = None) -> nouns.Job:
        """Return the job once it has ended, whatever its end; `progress` hears every event."""
        async for event in self.watch(job):
            if progress is not None:
                progress(event)
        return await self.get(job)
