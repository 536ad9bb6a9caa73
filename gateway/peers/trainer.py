"""The trainer over its stubs."""

from collections.abc import AsyncIterator, Mapping, Sequence

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.common.v1 import transfer_pb2
from trivium.trainer.v1 import dataset_pb2, dataset_pb2_grpc, training_pb2, training_pb2_grpc

from gateway.fine_tuning.training import Event, EventKind, Job, Kept, Order, Settings, State
from gateway.fine_tuning.wire import settings_of, to_settings
from gateway.peers import failures
from gateway.peers.source import Source
from services.chassis.errors import Failure, Reason

NAME = "trainer"
# What the trainer's fields are called in our own requests.
_FIELDS = {
    "start_version": "model",
    "base": "model",
    "dataset": "training_file",
    "validation_dataset": "validation_file",
    "job.start_version": "model",
    "job.base": "model",
    "job.dataset": "training_file",
    "job.validation_dataset": "validation_file",
    "job.alias": "alias",
}
_STATES = {training_pb2.JobState.Value(f"JOB_STATE_{state.name}"): state for state in State}
_KINDS = {training_pb2.JobEventKind.Value(f"JOB_EVENT_KIND_{kind.name}"): kind for kind in EventKind}


class RemoteTrainer:
    """Implements :class:`gateway.fine_tuning.training.Trainer`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: training_pb2_grpc.TrainingServiceAsyncStub = training_pb2_grpc.TrainingServiceStub(channel)

    async def create(self, order: Order) -> Job:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            return _job((await self._stub.CreateJob(_request(order))).job)

    async def completed(self, order: Order) -> Settings:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            answer = await self._stub.EstimateJob(training_pb2.EstimateJobRequest(job=_request(order)))
        return settings_of(answer.settings)

    async def get(self, job: str) -> Job:
        """As the Protocol says."""
        with failures.of(NAME):
            return _job((await self._stub.GetJob(training_pb2.GetJobRequest(job=job))).job)

    async def page(self, size: int, after: str) -> tuple[Sequence[Job], bool]:
        """As the Protocol says."""
        with failures.of(NAME, {"after_job": "after"}):
            answer = await self._stub.ListJobs(training_pb2.ListJobsRequest(page_size=size, after_job=after))
        return [_job(job) for job in answer.jobs], bool(answer.next_page_token)

    async def cancel(self, job: str) -> Job:
        """As the Protocol says."""
        with failures.of(NAME):
            return _job((await self._stub.CancelJob(training_pb2.CancelJobRequest(job=job))).job)

    async def pause(self, job: str) -> Job:
        """As the Protocol says."""
        with failures.of(NAME):
            return _job((await self._stub.PauseJob(training_pb2.PauseJobRequest(job=job))).job)

    async def resume(self, job: str) -> Job:
        """As the Protocol says."""
        with failures.of(NAME):
            return _job((await self._stub.ResumeJob(training_pb2.ResumeJobRequest(job=job))).job)

    async def label(self, job: str, labels: Mapping[str, str]) -> Job:
        """As the Protocol says."""
        with failures.of(NAME):
            return _job((await self._stub.UpdateJob(training_pb2.UpdateJobRequest(job=job, labels=labels))).job)

    async def events(self, job: str, size: int, before: int) -> Sequence[Event]:
        """As the Protocol says."""
        request = training_pb2.ListJobEventsRequest(job=job, page_size=size, before_sequence=before)
        with failures.of(NAME):
            answer = await self._stub.ListJobEvents(request)
        return [_event(event) for event in answer.events]

    async def checkpoints(self, job: str) -> Sequence[Kept]:
        """As the Protocol says."""
        with failures.of(NAME):
            answer = await self._stub.ListCheckpoints(training_pb2.ListCheckpointsRequest(job=job))
        return [Kept(found.step, _seconds(found.create_time)) for found in answer.checkpoints]

    async def publish(self, job: str, step: int, request_id: str) -> str:
        """As the Protocol says."""
        request = training_pb2.PublishCheckpointRequest(job=job, step=step, request_id=request_id)
        with failures.of(NAME):
            return (await self._stub.PublishCheckpoint(request)).version


class RemoteDatasets:
    """Implements :class:`gateway.fine_tuning.training.Datasets`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: dataset_pb2_grpc.DatasetServiceAsyncStub = dataset_pb2_grpc.DatasetServiceStub(channel)

    async def has(self, digest: str) -> bool:
        """As the Protocol says."""
        try:
            with failures.of(NAME):
                await self._stub.GetDataset(dataset_pb2.GetDatasetRequest(dataset=digest))
        except Failure as failure:
            if failure.reason is Reason.DATASET_NOT_FOUND:
                return False
            raise
        return True

    async def take(self, filename: str, size_bytes: int, sha256: str, content: AsyncIterator[bytes]) -> None:
        """As the Protocol says."""
        header = transfer_pb2.UploadHeader(filename=filename, size_bytes=size_bytes, sha256=sha256)
        source = Source(content)
        with source.told(), failures.of(NAME):
            await self._stub.UploadDataset(_parts(header, source))


async def _parts(header: transfer_pb2.UploadHeader, source: Source) -> AsyncIterator[dataset_pb2.UploadDatasetRequest]:
    yield dataset_pb2.UploadDatasetRequest(header=dataset_pb2.DatasetHeader(upload=header))
    async for chunk in source.chunks():
        yield dataset_pb2.UploadDatasetRequest(chunk=chunk)


def _request(order: Order) -> training_pb2.CreateJobRequest:
    return training_pb2.CreateJobRequest(
        model=order.model,
        dataset=order.dataset,
        validation_dataset=order.validation_dataset,
        base=order.base,
        start_version=order.start_version,
        settings=to_settings(order.settings),
        alias=order.alias,
        labels=order.labels,
        request_id=order.request_id,
    )


def _job(message: training_pb2.Job) -> Job:
    return Job(
        job=message.job,
        state=_STATES[message.state],
        model=message.model,
        dataset=message.dataset,
        validation_dataset=message.validation_dataset,
        base=message.base,
        start_version=message.start_version,
        settings=settings_of(message.settings),
        alias=message.alias,
        labels=dict(message.labels),
        step=message.step,
        total_steps=message.total_steps,
        trained_tokens=message.trained_tokens,
        best_step=message.best_step,
        version=message.version,
        error_reason=message.error.reason,
        error_message=message.error.message,
        create_time=_seconds(message.create_time),
        end_time=_seconds(message.end_time),
        estimated_end_time=_seconds(message.estimated_end_time),
        waiting_reason=message.waiting_reason,
    )


def _event(message: training_pb2.JobEvent) -> Event:
    return Event(
        sequence=message.sequence,
        kind=_KINDS[message.kind],
        state=_STATES[message.state],
        create_time=_seconds(message.create_time),
        step=message.step,
        total_steps=message.total_steps,
        loss=message.loss,
        learning_rate=message.learning_rate,
        trained_tokens=message.trained_tokens,
        message=message.message,
        evaluation=dict(message.evaluation),
    )


def _seconds(moment: Timestamp) -> float:
    return moment.ToNanoseconds() / 1e9
