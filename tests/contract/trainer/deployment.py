"""Access, the registry and the trainer as processes over a tiny base, on free ports."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from trivium.common.v1 import transfer_pb2
from trivium.registry.v1 import registry_pb2_grpc
from trivium.trainer.v1 import dataset_pb2, dataset_pb2_grpc, training_pb2, training_pb2_grpc

from tests import tied
from tests.forked_workers import named
from tests.harness.ports import bind_port, port_of
from tests.zygote import Forked

READY_SECONDS = 180
_SERVICES = ("access", "registry", "trainer")
# A channel that shares another's connection learns late that the service was killed and is there again.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(slots=True)
class Deployment:
    """The running services.

    `settings` are for the trainer's environment, beside what all of them have; a trainer that is `forking` starts
    itself and its workers in tenths of a second.
    """

    folder: Path
    base: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    forking: bool = False
    processes: dict[str, "subprocess.Popen[bytes] | Forked"] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    ports: dict[str, socket.socket] = field(default_factory=dict)

    def start(self, service: str) -> None:
        """Start a service on the port that it had before, or on a free one; no other server gets it in between."""
        run_file = self.folder / "run" / f"{service}.json"
        run_file.unlink(missing_ok=True)
        if service not in self.ports:
            self.ports[service] = bind_port()
        name = service.upper()
        environment = os.environ | {
            "TRIVIUM_DATA_DIR": str(self.folder),
            "TRIVIUM_BASE_MODEL": f"file:{self.base}",
            "TRIVIUM_MODEL_CACHE_DIR": str(self.folder / "models"),
            f"TRIVIUM_{name}_LISTEN": f"127.0.0.1:{port_of(self.ports[service])}",
            f"TRIVIUM_{name}_ADMIN_LISTEN": "127.0.0.1:0",
            f"TRIVIUM_{name}_METRICS_LISTEN": "127.0.0.1:0",
            "TRIVIUM_TRAINER_THREADS": "1",
            "TRIVIUM_TRAINER_RESTART_SECONDS": "0.05",
            **{f"TRIVIUM_{peer.upper()}_ADDRESS": address for peer, address in self.addresses.items()},
            **(self.settings if service == "trainer" else {}),
        }
        with (self.folder / f"{service}.log").open("ab") as log:
            if service == "trainer" and self.forking:
                process: subprocess.Popen[bytes] | Forked = tied.start_forking_trainer(env=environment, stderr=log)
            else:
                process = tied.start_service(service, env=environment, stderr=log)
        self.processes[service] = process
        deadline = time.monotonic() + READY_SECONDS
        while not run_file.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
            assert process.poll() is None, (self.folder / f"{service}.log").read_text()[-3000:]
            assert time.monotonic() < deadline, f"{service} was not ready in {READY_SECONDS} s"
        self.addresses[service] = json.loads(run_file.read_text())["listen"]

    def kill(self, service: str) -> None:
        """Kill a service as the system would when memory runs out."""
        self.processes[service].send_signal(signal.SIGKILL)
        self.processes[service].wait(10)

    def stop(self) -> None:
        """Stop what runs, gently first."""
        for process in reversed(list(self.processes.values())):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        for port in self.ports.values():
            port.close()

    def children(self) -> list[psutil.Process]:
        """The trainer's training processes."""
        trainer = psutil.Process(self.processes["trainer"].pid)
        children = trainer.children()
        if self.forking:
            return named(children)
        return [child for child in children if "services.trainer." in " ".join(child.cmdline())]

    def job_folders(self) -> set[str]:
        """Names of the folders in which training processes worked; each is a job's id."""
        folder = self.folder / "trainer" / "jobs"
        return set(os.listdir(folder)) if folder.exists() else set()

    def left_of(self, job: str) -> set[str]:
        """Names of what lies in a job's folder."""
        folder = self.folder / "trainer" / "jobs" / job
        return set(os.listdir(folder)) if folder.exists() else set()

    @contextlib.contextmanager
    def caller(self) -> Iterator["Caller"]:
        """Stubs that carry the admin key."""
        key = (self.folder / "keys" / "admin.key").read_text().strip()
        with contextlib.ExitStack() as stack:
            opened = {
                name: stack.enter_context(grpc.insecure_channel(self.addresses[name], OWN_CONNECTION))
                for name in ("registry", "trainer")
            }
            yield Caller(
                dataset_pb2_grpc.DatasetServiceStub(opened["trainer"]),
                training_pb2_grpc.TrainingServiceStub(opened["trainer"]),
                registry_pb2_grpc.RegistryServiceStub(opened["registry"]),
                (("authorization", f"Bearer {key}"),),
            )


@dataclass(frozen=True, slots=True)
class Caller:
    """The stubs of a principal, and the metadata that says who it is."""

    datasets: Any
    training: Any
    registry: Any
    metadata: tuple[tuple[str, str], ...]

    def upload(self, content: bytes, name: str = "rows.jsonl", piece: int = 300) -> dataset_pb2.Dataset:
        """Upload rows in pieces."""
        answer = self.datasets.UploadDataset(
            parts(content, name, piece=piece), metadata=self.metadata, timeout=60, wait_for_ready=True
        )
        stored: dataset_pb2.Dataset = answer.dataset
        return stored

    def create(self, **fields: Any) -> training_pb2.Job:
        """Queue a job."""
        request = training_pb2.CreateJobRequest(**fields)
        job: training_pb2.Job = self.training.CreateJob(request, metadata=self.metadata, wait_for_ready=True).job
        return job

    def watch(self, job: str, after: int = 0) -> Iterator[training_pb2.JobEvent]:
        """The job's events as they come."""
        request = training_pb2.WatchJobRequest(job=job, after_sequence=after)
        for answer in self.training.WatchJob(request, metadata=self.metadata, timeout=280, wait_for_ready=True):
            yield answer.event

    def until_step(self, job: str, step: int = 1) -> int:
        """Wait until the job has done so many steps; return the sequence of the event that said so."""
        for event in self.watch(job):
            if event.kind == training_pb2.JOB_EVENT_KIND_STEP and event.step >= step:
                return int(event.sequence)
        raise AssertionError(f"{job} ended before step {step}: {self.get(job)}")

    def finished(self, job: str) -> training_pb2.Job:
        """Wait until the job has ended; return it."""
        for _ in self.watch(job):
            pass
        return self.get(job)

    def get(self, job: str) -> training_pb2.Job:
        """The job as it is."""
        found: training_pb2.Job = self.training.GetJob(
            training_pb2.GetJobRequest(job=job), metadata=self.metadata, wait_for_ready=True
        ).job
        return found


def until_struck(strike: Callable[[], bool]) -> None:
    """Strike at one job after another until ``strike`` says that it struck a job that still ran.

    A job of a test takes a second: on a machine that stalls it is over when the blow comes.
    """
    if not any(strike() for _ in range(10)):
        raise AssertionError("ten jobs ended before they were struck, or did not go on after it")


def parts(
    content: bytes, name: str, *, piece: int = 300, offset: int = 0, end: int | None = None
) -> Iterator[dataset_pb2.UploadDatasetRequest]:
    """The messages of an upload from `offset`, stopping early at `end`."""
    header = transfer_pb2.UploadHeader(
        filename=name,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        resume_offset_bytes=offset,
    )
    yield dataset_pb2.UploadDatasetRequest(header=dataset_pb2.DatasetHeader(upload=header))
    for begin in range(offset, len(content) if end is None else end, piece):
        chunk = transfer_pb2.Chunk(offset_bytes=begin, data=content[begin : begin + piece])
        yield dataset_pb2.UploadDatasetRequest(chunk=chunk)


@contextlib.contextmanager
def deployed(
    folder: Path, base: Path, settings: Mapping[str, str] | None = None, *, forking: bool = False
) -> Iterator[Deployment]:
    """The three services, stopped at the end; `settings` and `forking` as Deployment has them."""
    deployment = Deployment(folder, base, settings or {}, forking)
    try:
        for service in _SERVICES:
            deployment.start(service)
        yield deployment
    finally:
        deployment.stop()
