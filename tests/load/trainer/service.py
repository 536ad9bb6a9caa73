"""The trainer as it is deployed, over access and a registry, and tenants that order jobs over gRPC."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from trivium.trainer.v1 import dataset_pb2_grpc, training_pb2, training_pb2_grpc

from services.chassis.models import DEFAULT_BASE
from tests.contract.trainer.deployment import parts
from tests.load.trainer.mixture import WORDS
from tests.load.trainer.workers import THREADS
from tests.stack import Api, Process, Stack

FINISHED = frozenset(
    {training_pb2.JOB_STATE_SUCCEEDED, training_pb2.JOB_STATE_FAILED, training_pb2.JOB_STATE_CANCELLED}
)
# After these a job no longer trains.
TRAINED = FINISHED | {training_pb2.JOB_STATE_REGISTERING}
_CALL_SECONDS = 600.0
_PAGE = 200


@dataclass(frozen=True)
class Trainer:
    """A running trainer and the stack below it."""

    stack: Stack
    process: Process
    channel: grpc.Channel

    def tenant(self, name: str = "") -> Tenant:
        """A new tenant's hands on it."""
        name = self.stack.tenant(name)
        credential = self.stack.tenant_key(name)
        return Tenant(
            name,
            credential,
            Api(dataset_pb2_grpc.DatasetServiceStub(self.channel), credential, _CALL_SECONDS),
            Api(training_pb2_grpc.TrainingServiceStub(self.channel), credential, _CALL_SECONDS),
        )

    def peak_bytes(self) -> int:
        """What the trainer and all its processes have been resident with at most, each at its own peak.

        By the kernel's account, which misses no short peak and costs little to read; pages that several share count in
        each of them, so it is no less than what they held.
        """
        found = 0
        service = psutil.Process(self.process.pid)
        for process in [service, *service.children(recursive=True)]:
            with suppress(OSError):
                found += _most_resident_bytes(process.pid)
        return found

    def training_bytes(self) -> int:
        """What the processes that train hold for themselves alone, pages that others could share left out."""
        found = 0
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "services.trainer.joint.worker" in process.cmdline():
                    found += process.memory_full_info().uss
            except psutil.Error:
                continue
        return found

    def compute_seconds(self) -> dict[str, float]:
        """Seconds of forward, backward and optimizer that tenants' jobs have been charged, from the trainer's books."""
        with sqlite3.connect(f"file:{self._database()}?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT tenant, measures_json FROM jobs").fetchall()
        found: dict[str, float] = {}
        for tenant, measures in rows:
            found[tenant] = found.get(tenant, 0.0) + json.loads(measures or "{}").get("charged_seconds", 0.0)
        return found

    def _database(self) -> Path:
        return self.stack.data / "trainer" / "trainer.db"


@dataclass(frozen=True)
class Tenant:
    """One tenant with its own hands on the trainer."""

    name: str
    credential: str
    datasets: Api
    training: Api

    def upload(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Upload rows; the dataset's name."""
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return str(self.datasets.UploadDataset(parts(content, "rows.jsonl", piece=1 << 18)).dataset.dataset)

    def order(self, model: str, dataset: str, settings: training_pb2.TrainingSettings, **fields: Any) -> str:
        """Queue a job; its id."""
        request = training_pb2.CreateJobRequest(model=model, dataset=dataset, settings=settings, **fields)
        return str(self.training.CreateJob(request).job.job)

    def jobs(self) -> list[training_pb2.Job]:
        """All of its jobs, as they stand."""
        found: list[training_pb2.Job] = []
        token = ""
        while True:
            page = self.training.ListJobs(training_pb2.ListJobsRequest(page_size=_PAGE, page_token=token))
            found += page.jobs
            token = page.next_page_token
            if not token:
                return found

    def states(self) -> list[training_pb2.JobState.ValueType]:
        """How its jobs stand."""
        return [job.state for job in self.jobs()]

    def trained_tokens(self) -> int:
        """Of all its jobs together, so far."""
        return sum(job.trained_tokens for job in self.jobs())


def _most_resident_bytes(pid: int) -> int:
    """The kernel's `VmHWM`; 0 for a process that has ended.  Raises OSError for one that is gone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def texts(count: int, words: int) -> list[dict[str, str]]:
    """Plain texts of so many words each."""
    return [
        {"text": " ".join(WORDS[(number * 7 + place * (place + number)) % len(WORDS)] for place in range(words))}
        for number in range(count)
    ]


def plain_settings(rows: int, tokens: int, steps: int, **rest: Any) -> training_pb2.TrainingSettings:
    """A job of rank 8 on all linear layers that continues on plain text in rows of exactly so many tokens."""
    return training_pb2.TrainingSettings(
        objective=training_pb2.OBJECTIVE_CONTINUED,
        lora=training_pb2.LoraSettings(rank=8),
        batch_rows=rows,
        max_row_tokens=tokens,
        max_steps=steps,
        epochs=1000,
        **rest,
    )


@contextmanager
def deployed(
    folder: Path, environment: Mapping[str, str] | None = None, *, base: str = DEFAULT_BASE, threads: int = THREADS
) -> Iterator[Trainer]:
    """Access, the registry and the trainer over one data folder, stopped at the end."""
    with ExitStack() as kept:
        stack = Stack(folder, {"TRIVIUM_REGISTRY_BASES": base})
        kept.callback(stack.close)
        yield kept.enter_context(beside(stack, environment, base=base, threads=threads))


@contextmanager
def beside(
    stack: Stack, environment: Mapping[str, str] | None = None, *, base: str = DEFAULT_BASE, threads: int = THREADS
) -> Iterator[Trainer]:
    """A trainer over a stack that runs."""
    settings = {
        "TRIVIUM_ACCESS_ADDRESS": stack.access.address,
        "TRIVIUM_REGISTRY_ADDRESS": stack.registry.address,
        "TRIVIUM_BASE_MODEL": base,
        "TRIVIUM_TRAINER_THREADS": str(threads),
        "TRIVIUM_DRAIN_SECONDS": "1",
        **(environment or {}),
    }
    process = Process("trainer", stack.data, settings)
    try:
        process.start()
        with grpc.insecure_channel(process.address) as channel:
            yield Trainer(stack, process, channel)
    finally:
        process.stop()
