"""Trainers that are killed, stopped and frozen, and people who order, pause, cancel and watch jobs meanwhile.

`World` has one trainer over SQLite, or two over one PostgreSQL with a bucket for datasets, each with a disk of its own;
it knows what each kind of job becomes undisturbed.  `Watch` follows one job through whatever happens to streams.
"""

import contextlib
import json
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psutil
from sqlalchemy import Engine, text
from trivium.registry.v1 import registry_pb2
from trivium.trainer.v1 import training_pb2, training_pb2_grpc

from services.chassis.database import make_engine
from tests.contract.trainer.deployment import OWN_CONNECTION, Caller, Deployment, deployed
from tests.forked_workers import named
from tests.stack import eventually
from tests.unit.trainer.tiny import ROWS, rows_text

LEASE_SECONDS = 2.0
# Lives kill processes more often than a job that is to blame would end its own.
SETTINGS = {
    "TRIVIUM_TRAINER_LEASE_SECONDS": str(LEASE_SECONDS),
    "TRIVIUM_TRAINER_MAX_CRASHES": "1000",
    "TRIVIUM_TRAINER_MAX_RESTART_SECONDS": "0.2",
    # Nothing of a job that ended is to be left when a life is over; that it stays a while has its own tests.
    "TRIVIUM_TRAINER_ENDED_CHECKPOINT_SECONDS": "0",
}
ENDED = frozenset({training_pb2.JOB_STATE_SUCCEEDED, training_pb2.JOB_STATE_FAILED, training_pb2.JOB_STATE_CANCELLED})
# What passes when a trainer is killed in the middle of an answer, or is not there yet.
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
_END_SECONDS = 240.0
_AGAIN_SECONDS = 0.05
_FILES = {
    "rows": rows_text(4),
    "pairs": "".join(
        json.dumps({"prompt": asked, "chosen": said, "rejected": "No idea, go away."}) + "\n"
        for asked, said in ROWS * 4
    ),
}
_LORA = partial(training_pb2.LoraSettings, rank=4)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job: a file, and how it is trained on."""

    file: str
    settings: training_pb2.TrainingSettings


def _kind(file: str, lora: training_pb2.LoraSettings, **settings: Any) -> Kind:
    return Kind(file, training_pb2.TrainingSettings(lora=lora, **{"learning_rate": 1e-3, "batch_rows": 1, **settings}))


# They differ in rank, length, objective, and in what a checkpoint must hold for them.
KINDS: Mapping[str, Kind] = {
    "short": _kind("rows", _LORA(), epochs=1, checkpoint_steps=3),
    "dropout": _kind("rows", _LORA(rank=16, dropout=0.1), epochs=3, checkpoint_steps=7, seed=5),
    "judged": _kind("rows", _LORA(rank=8), epochs=2, checkpoint_steps=9, validation_ratio=0.3, evaluation_steps=5),
    "pairs": _kind(
        "pairs", _LORA(rank=8), objective=training_pb2.OBJECTIVE_DPO, epochs=4, batch_rows=2, checkpoint_steps=5
    ),
    # In small batches, and without a checkpoint but where it is told to stop.
    "split": _kind("rows", _LORA(), epochs=10, batch_rows=4, micro_batch_tokens=64, checkpoint_steps=1_000_000),
}


@dataclass(slots=True)
class World:
    """The trainers, the first with access and the registry beside it."""

    trainers: Sequence[Deployment]
    rows: Engine
    # Digests of the weights of each kind of job, alone and undisturbed.
    alone: dict[str, str]
    datasets: Mapping[str, str] = field(default_factory=dict)
    frozen: set[int] = field(default_factory=set)

    def awake(self, which: int) -> Deployment:
        """A trainer that answers: this one, or the next one while it is frozen; this one too where no other is.

        Who watches asks for one while the only one is frozen, and is answered once it goes on.
        """
        turns = [(which + step) % len(self.trainers) for step in range(len(self.trainers))]
        return self.trainers[next((turn for turn in turns if turn not in self.frozen), turns[0])]

    def caller(self, which: int = 0) -> contextlib.AbstractContextManager[Caller]:
        """Stubs to a trainer that answers."""
        return self.awake(which).caller()

    def kill_processes(self, which: int) -> None:
        """Kill the training processes of a trainer."""
        for child in self.awake(which).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def restart(self, which: int, how: signal.Signals) -> None:
        """End a trainer by a signal, and start it where it was."""
        trainer = self.awake(which)
        trainer.processes["trainer"].send_signal(how)
        trainer.processes["trainer"].wait(60)
        trainer.start("trainer")

    def freeze(self, which: int) -> None:
        """Stop a trainer and all its processes in the middle of whatever they do, as a machine that hangs does."""
        trainer = self.trainers[which]
        family = self._family(which)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        self.frozen.add(which)
        assert trainer.processes["trainer"].poll() is None

    def thaw(self, which: int) -> None:
        """Let it go on, once no lease of its own is left: it does not know that yet."""
        owner = f"%/{self.trainers[which].processes['trainer'].pid}/%"
        lapsed = (
            "lease_owner LIKE :owner"
            if len(self.trainers) > 1
            else "lease_owner LIKE :owner AND lease_expires_at > :now"
        )
        eventually(
            lambda: not self.ask(f"SELECT job FROM jobs WHERE {lapsed}", owner=owner),
            "the frozen trainer's leases lapse",
        )
        for process in self._family(which):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self.frozen.discard(which)

    def _family(self, which: int) -> list[psutil.Process]:
        trainer = psutil.Process(self.trainers[which].processes["trainer"].pid)
        return [trainer, *trainer.children(recursive=True)]

    def require_running(self) -> None:
        """Fail for a trainer that ended by itself."""
        for trainer in self.trainers:
            log = trainer.folder / "trainer.log"
            assert trainer.processes["trainer"].poll() is None, f"a trainer ended by itself:\n{log.read_text()[-4000:]}"

    def ask(self, query: str, **values: object) -> list[Any]:
        """Rows of the trainers' database as they are now."""
        with self.rows.connect() as connection:
            return list(connection.execute(text(query), {"now": time.time(), **values} if ":now" in query else values))

    def order(self, caller: Caller, kind: str, model: str, request_id: str = "") -> training_pb2.Job:
        """Queue a job of a kind."""
        wanted = KINDS[kind]
        return caller.create(
            model=model, dataset=self.datasets[wanted.file], settings=wanted.settings, request_id=request_id
        )

    def weights(self, caller: Caller, model: str) -> list[str]:
        """The digest of the weights of each version of a model; none for a model that is not there."""
        try:
            answer = caller.registry.ListVersions(
                registry_pb2.ListVersionsRequest(model=model), metadata=caller.metadata, wait_for_ready=True
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return []
            raise
        return [
            str(file.sha256)
            for version in answer.versions
            for file in version.files
            if file.filename.endswith(".safetensors")
        ]

    def strays(self) -> list[psutil.Process]:
        """Processes that work in the trainers' folders and belong to none of them."""
        folders = [str(trainer.folder / "trainer") for trainer in self.trainers]
        family = {process.pid for which in range(len(self.trainers)) for process in self._family(which)}
        strays = []
        for process in named(list(psutil.process_iter())):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.pid not in family and any(process.cwd().startswith(folder) for folder in folders):
                    strays.append(process)
        return strays


@contextlib.contextmanager
def one_trainer(folder: Path, base: Path, alone: dict[str, str]) -> Iterator[World]:
    """A trainer over SQLite."""
    with deployed(folder, base, SETTINGS, forking=True) as running:
        world = World([running], make_engine(f"sqlite:///{folder}/trainer/trainer.db"), alone)
        with _prepared(world):
            yield world


@contextlib.contextmanager
def two_trainers(
    folder: Path, base: Path, alone: dict[str, str], database_url: str, bucket: str, way: Mapping[str, str]
) -> Iterator[World]:
    """Two trainers over one PostgreSQL and one bucket; `way` leads to the bucket."""
    settings = {
        **SETTINGS,
        **way,
        "TRIVIUM_TRAINER_DATABASE_URL": database_url,
        "TRIVIUM_TRAINER_BLOBS_URL": bucket,
    }
    here, there = folder / "here", folder / "there"
    for each in (here, there):
        each.mkdir()
    with deployed(here, base, settings, forking=True) as first:
        (there / "keys").symlink_to(here / "keys")
        peers = {name: address for name, address in first.addresses.items() if name != "trainer"}
        second = Deployment(there, base, settings, forking=True, addresses=peers)
        try:
            second.start("trainer")
            world = World([first, second], make_engine(database_url), alone)
            with _prepared(world):
                yield world
        finally:
            second.stop()


@contextlib.contextmanager
def _prepared(world: World) -> Iterator[None]:
    """Datasets stored, and each kind of job trained once, one after another, unless another world did that."""
    with world.caller() as caller:
        world.datasets = {
            name: str(caller.upload(content.encode(), f"{name}.jsonl").dataset) for name, content in _FILES.items()
        }
        for kind in KINDS.keys() - world.alone:
            done = caller.finished(world.order(caller, kind, f"alone-{kind}").job)
            assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error
            (world.alone[kind],) = world.weights(caller, done.model)
    try:
        yield
    finally:
        for which in list(world.frozen):
            for process in world._family(which):
                process.resume()
        world.rows.dispose()


class Watch:
    """Follows a job in a thread of its own until it has ended; a stream that breaks is taken up at another trainer."""

    def __init__(self, world: World, job: str, metadata: tuple[tuple[str, str], ...]) -> None:
        self.job = job
        self.events: list[training_pb2.JobEvent] = []
        self.failed: grpc.RpcError | None = None
        self._world = world
        self._metadata = metadata
        self._changed = threading.Condition()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._follow, name=f"watch {job}", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        turn = 0
        while self.state not in ENDED:
            turn += 1
            try:
                self._listen(self._world.awake(turn).addresses["trainer"])
            except grpc.RpcError as error:
                if error.code() not in _PASSING:
                    self.failed = error
                    break
                # Where nobody is, the refusal comes at once: asking without rest would take what the others compute with.
                time.sleep(_AGAIN_SECONDS)
        with self._changed:
            self._changed.notify_all()

    def _listen(self, address: str) -> None:
        options = (*OWN_CONNECTION, ("grpc.initial_reconnect_backoff_ms", 50))
        with grpc.insecure_channel(address, options) as channel:
            stub = training_pb2_grpc.TrainingServiceStub(channel)
            request = training_pb2.WatchJobRequest(job=self.job, after_sequence=self.seen)
            self._stream = stub.WatchJob(request, metadata=self._metadata, timeout=_END_SECONDS)
            for answer in self._stream:
                with self._changed:
                    self.events.append(answer.event)
                    self._changed.notify_all()

    @property
    def seen(self) -> int:
        """The sequence number of the last event."""
        return int(self.events[-1].sequence) if self.events else 0

    @property
    def state(self) -> int:
        """The job's state, as last heard."""
        return int(self.events[-1].state) if self.events else training_pb2.JOB_STATE_QUEUED

    @property
    def steps(self) -> list[int]:
        """The steps that were told."""
        return [event.step for event in self.events if event.kind == training_pb2.JOB_EVENT_KIND_STEP]

    def cut(self) -> None:
        """Break the stream off."""
        if self._stream is not None:
            self._stream.cancel()

    def wait(self, holds: Callable[["Watch"], bool], seconds: float) -> bool:
        """Wait until it holds, as events come in, or so long; whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self), seconds)

    def require_listening(self) -> None:
        """Fail where it hears no more of a job that has not ended."""
        assert self.failed is None, self.failed
        assert self.state in ENDED or self._thread.is_alive(), f"nobody listens to {self.job}: its thread has ended"

    def join(self) -> None:
        """Wait until the job has ended, and all was told of it."""
        self._thread.join(_END_SECONDS)
        self.require_listening()
        assert not self._thread.is_alive(), f"who watches {self.job} was told {self.events[-3:]} and then nothing"


def new_request_id() -> str:
    """As a client makes one."""
    return str(uuid.uuid4())
