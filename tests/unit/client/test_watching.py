"""A watch goes on behind a lost connection with every event once, and gives up when it should."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from trivium.trainer.v1 import training_pb2, training_pb2_grpc
from trivium_client import AsyncTrivium, RequestTimeoutError, TriviumError, jobs
from trivium_client.loop import Loop, is_served_wakeup
from trivium_client.nouns import Job
from trivium_client.transport import WATCH_PATIENCE_SECONDS

from tests.harness.clock import ManualClock

EVENTS = 6
# Long past what a trainer may stay away.
HOURS = 10_000.0


@dataclass(slots=True)
class Trainer(training_pb2_grpc.TrainingServiceServicer):
    """Has EVENTS events of a job; before each of its answers `before` may end the call."""

    before: Callable[[int, Any], Awaitable[None]]
    asked: list[int] = field(default_factory=list)

    async def WatchJob(
        self, request: training_pb2.WatchJobRequest, context: Any
    ) -> AsyncIterator[training_pb2.WatchJobResponse]:
        """The events behind the one that is named."""
        self.asked.append(request.after_sequence)
        for sequence in range(request.after_sequence + 1, EVENTS + 1):
            await self.before(sequence, context)
            yield training_pb2.WatchJobResponse(event=training_pb2.JobEvent(sequence=sequence))

    async def GetJob(self, request: training_pb2.GetJobRequest, context: Any) -> training_pb2.GetJobResponse:
        """The job, which waits."""
        job = training_pb2.Job(job=request.job, queue_position=2)
        return training_pb2.GetJobResponse(job=job)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The clock that a watch looks at; between two attempts it waits no time."""
    clock = ManualClock(1.0)
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(jobs, "random", SimpleNamespace(uniform=lambda *_: 0.0))
    return clock


@contextlib.asynccontextmanager
async def reached(trainer: Trainer) -> AsyncIterator[AsyncTrivium]:
    """A client of a trainer that serves."""
    server = grpc.aio.server()
    training_pb2_grpc.add_TrainingServiceServicer_to_server(trainer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsyncTrivium(api_key="k", addresses={"trainer": f"127.0.0.1:{port}"}) as client:
            yield client
    finally:
        await server.stop(0)


async def watched(trainer: Trainer, lost: Callable[[TriviumError], None] | None = None) -> list[int]:
    """The sequence numbers that a watch told."""
    async with reached(trainer) as client:
        return [event.sequence async for event in client.jobs.watch("job", lost=lost)]


async def test_a_watch_resumes_behind_the_last_event_that_it_told(clock: ManualClock) -> None:
    cuts = {3, 5}
    heard: list[str] = []

    async def before(sequence: int, context: Any) -> None:
        if sequence in cuts:
            cuts.remove(sequence)
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"cut before {sequence}")

    trainer = Trainer(before)
    told = await watched(trainer, lambda error: heard.append(error.reason))
    assert told == list(range(1, EVENTS + 1))
    assert trainer.asked == [0, 2, 4]
    assert heard == ["UNAVAILABLE", "UNAVAILABLE"]


async def test_a_trainer_that_restarts_after_hours_of_silence_is_waited_for(clock: ManualClock) -> None:
    silent = {2, 4}

    async def before(sequence: int, context: Any) -> None:
        if sequence in silent:
            silent.remove(sequence)
            clock.advance(HOURS)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "it goes away")

    assert await watched(Trainer(before)) == list(range(1, EVENTS + 1))


async def test_a_trainer_that_stays_away_is_given_up_and_one_that_never_was_at_once(clock: ManualClock) -> None:
    # A deadline that passed is not tried again by the channel, which takes seconds.
    async def never(sequence: int, context: Any) -> None:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "nobody")

    absent = Trainer(never)
    with pytest.raises(RequestTimeoutError):
        await watched(absent)
    assert absent.asked == [0]

    async def once(sequence: int, context: Any) -> None:
        if sequence > 1:
            clock.advance(9)
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "it went away")

    gone = Trainer(once)
    with pytest.raises(RequestTimeoutError):
        await watched(gone)
    assert set(gone.asked) == {0, 1}
    assert clock.now > WATCH_PATIENCE_SECONDS


async def test_after_a_silence_a_watch_tells_how_the_job_stands() -> None:
    stands: list[Job] = []
    stood = asyncio.Event()

    async def before(sequence: int, context: Any) -> None:
        # Silent until the job itself was told.
        if sequence == 3:
            await stood.wait()

    def heard(job: Job) -> None:
        stands.append(job)
        stood.set()

    async with reached(Trainer(before)) as client:
        told = [event.sequence async for event in client.jobs.watch("job", stands=heard, every_seconds=0.01)]
        assert told == list(range(1, EVENTS + 1))
        assert {job.queue_position for job in stands} == {2}
        ours = [task.get_coro() for task in asyncio.all_tasks()]
        assert not any("Jobs._tell" in repr(work) for work in ours)


def test_a_watch_that_is_left_half_read_ends_in_silence() -> None:
    loop = Loop()
    complaints: list[str] = []

    def complain(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not is_served_wakeup(context):
            complaints.append(context["message"])

    loop._loop.set_exception_handler(complain)
    serving = contextlib.AsyncExitStack()
    stop = asyncio.Event()

    async def silent(sequence: int, context: Any) -> None:
        if sequence == 2:
            await stop.wait()

    async def begun() -> AsyncTrivium:
        return await serving.enter_async_context(reached(Trainer(silent)))

    async def ended() -> None:
        stop.set()
        await serving.aclose()

    client = loop.run(begun())
    stood = threading.Event()
    events = loop.iterate(client.jobs.watch("job", stands=lambda _: stood.set(), every_seconds=0.01))
    assert next(events).sequence == 1
    assert stood.wait(30)
    loop.run(ended())
    loop.stop()
    events.close()
    assert complaints == []
