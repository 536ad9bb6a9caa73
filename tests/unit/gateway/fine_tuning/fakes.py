"""A trainer, files and names in memory, as the Protocols say."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.fine_tuning.materials import Materials
from gateway.fine_tuning.results import Results
from gateway.fine_tuning.training import Event, Job, Kept, Order, Settings, State, StoredFile
from gateway.fine_tuning.tuner import Tuner
from gateway.routing import ModelKind, Route
from services.chassis.context import Bearer, RequestContext, Role
from services.chassis.errors import Failure, Reason

ASKING = RequestContext("acme", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/CreateFineTuningJob")
ROUTES = {
    "base": Route("base", "base", ModelKind.BASE),
    "base:house": Route("base:house", "base:house", ModelKind.BASE, base="house"),
    "desk": Route("desk", "desk@sha256:aa", ModelKind.ADAPTER, version="sha256:aa", number=3),
    "whole": Route("whole", "whole@sha256:bb", ModelKind.FULL, version="sha256:bb", number=2),
    "finder": Route("finder", "finder@sha256:cc", ModelKind.ENCODER, version="sha256:cc", number=1),
}
DEFAULTS = {"epochs": 3, "batch_rows": 8, "learning_rate": 0.001, "seed": "0", "objective": "OBJECTIVE_SUPERVISED"}


@dataclass
class FakeTrainer:
    """Jobs by id, newest last; nothing trains."""

    jobs: dict[str, Job] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    told: dict[str, list[Event]] = field(default_factory=dict)
    kept: dict[str, list[Kept]] = field(default_factory=dict)
    published: list[tuple[str, int, str]] = field(default_factory=list)
    refuses: Failure | None = None

    def _settings(self, order: Order) -> Settings:
        return {**DEFAULTS, **order.settings}

    async def create(self, order: Order) -> Job:
        self.orders.append(order)
        job = Job(
            f"j{len(self.jobs) + 1}",
            State.QUEUED,
            model=order.model,
            dataset=order.dataset,
            settings=self._settings(order),
            labels=order.labels,
            alias=order.alias,
            create_time=100.0 + len(self.jobs),
        )
        self.jobs[job.job] = job
        return job

    async def completed(self, order: Order) -> Settings:
        return self._settings(order)

    async def get(self, job: str) -> Job:
        if job not in self.jobs:
            raise Failure(Reason.JOB_NOT_FOUND, name=job)
        return self.jobs[job]

    async def page(self, size: int, after: str) -> tuple[Sequence[Job], bool]:
        newest = list(reversed(self.jobs.values()))
        begin = [job.job for job in newest].index(after) + 1 if after else 0
        # As a trainer whose page holds less than was asked for.
        size = min(size, 2)
        return newest[begin : begin + size], begin + size < len(newest)

    def moved(self, job: str, **values: object) -> Job:
        self.jobs[job] = replace(self.jobs[job], **values)  # type: ignore[arg-type]  # fields of Job, by the test
        return self.jobs[job]

    async def cancel(self, job: str) -> Job:
        return self.moved(job, state=State.CANCELLING)

    async def pause(self, job: str) -> Job:
        return self.moved(job, state=State.PAUSING)

    async def resume(self, job: str) -> Job:
        return self.moved(job, state=State.QUEUED)

    async def label(self, job: str, labels: Mapping[str, str]) -> Job:
        if self.refuses is not None:
            raise self.refuses
        written = {**self.jobs[job].labels, **labels}
        return self.moved(job, labels={name: value for name, value in written.items() if value})

    async def events(self, job: str, size: int, before: int) -> Sequence[Event]:
        await self.get(job)
        found = [event for event in reversed(self.told.get(job, [])) if not before or event.sequence < before]
        return found[:size]

    async def checkpoints(self, job: str) -> Sequence[Kept]:
        return self.kept.get(job, [])

    async def publish(self, job: str, step: int, request_id: str) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.published.append((job, step, request_id))
        return f"sha256:step{step}"


@dataclass
class FakeDatasets:
    """Digests, and what was sent."""

    digests: set[str] = field(default_factory=set)
    taken: list[tuple[str, int, str, bytes]] = field(default_factory=list)
    refuses: Failure | None = None

    async def has(self, digest: str) -> bool:
        return digest in self.digests

    async def take(self, filename: str, size_bytes: int, sha256: str, content: AsyncIterator[bytes]) -> None:
        sent = b"".join([piece async for piece in content])
        if self.refuses is not None:
            raise self.refuses
        self.taken.append((filename, size_bytes, sha256, sent))
        self.digests.add(f"sha256:{sha256}")


@dataclass
class FakeFiles:
    """Files by id, and results that were written."""

    contents: dict[str, tuple[StoredFile, bytes]] = field(default_factory=dict)
    results: list[tuple[str, str, bytes]] = field(default_factory=list)
    refuses: Failure | None = None

    def put(self, file: str, content: bytes, *, trainable: bool = True) -> None:
        self.contents[file] = (StoredFile(file, f"{file}.jsonl", len(content), f"digest-of-{file}", trainable), content)

    async def describe(self, file: str) -> StoredFile:
        if file not in self.contents:
            raise Failure(Reason.FILE_NOT_FOUND, name=file)
        return self.contents[file][0]

    async def read(self, file: str) -> AsyncIterator[bytes]:
        content = self.contents[file][1]
        yield content[:3]
        yield content[3:]

    async def write_results(self, filename: str, content: bytes, request_id: str) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.results.append((request_id, filename, content))
        return f"file-of-{filename}"


class FakeModels:
    """What names mean."""

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        if name not in ROUTES:
            raise Failure(Reason.MODEL_NOT_FOUND, name=name, near="desk")
        return ROUTES[name]


@dataclass
class World:
    """A tuner over fakes."""

    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    datasets: FakeDatasets = field(default_factory=FakeDatasets)
    files: FakeFiles = field(default_factory=FakeFiles)

    @property
    def tuner(self) -> Tuner:
        results = Results(self.trainer, self.files)
        fresh = iter(f"0000-{number:010d}" for number in range(100))
        return Tuner(
            self.trainer, Materials(self.files, self.datasets), FakeModels(), results, new_id=lambda: next(fresh)
        )
