"""The real joint worker as a process of its own: started as the trainer starts it, told and heard over its pipes."""

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from services.chassis import resources, waiting
from services.chassis.models import DEFAULT_BASE, resolve
from services.trainer.work import RESULT, WorkerOrder
from tests import tied
from tests.unit.trainer.joint.workers import Running

THREADS = 2
_MEMORY_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class Base:
    """A base's folder, and what it is called."""

    path: Path
    name: str
    digest: str

    @classmethod
    def default(cls) -> "Base":
        """The deployment's default base."""
        found = resolve(DEFAULT_BASE)
        return cls(found.path, found.name, found.digest)


def write_order(folder: Path, base: Base) -> Path:
    """Write a worker's order; return its folder."""
    WorkerOrder(str(base.path), base.name, base.digest, THREADS, "bfloat16", str(folder.parent), _MEMORY_BYTES).write(
        folder
    )
    return folder


@contextmanager
def fresh_worker(folder: Path, base: Base) -> Iterator[Running]:
    """A worker in a new process; it is gone at the end of the block."""
    write_order(folder, base)
    share = resources.shares()[resources.Role.TRAINER]
    with (folder / "process.log").open("ab") as log:
        process = tied.start(
            [sys.executable, "-m", "services.trainer.joint.worker", folder],
            stdin=-1,
            stdout=-1,
            stderr=log,
            bufsize=0,
            env=os.environ | share.environment() | {"OMP_NUM_THREADS": str(THREADS)} | waiting.ENVIRONMENT,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    output = io.BufferedReader(cast("io.RawIOBase", process.stdout))
    try:
        yield Running(process.pid, cast("io.BufferedWriter", process.stdin), output, os.pidfd_open(process.pid))
    finally:
        process.kill()
        process.wait()


def adapter_digest(folder: Path) -> str:
    """SHA-256 of the adapter that the job in the folder made; empty where it made none."""
    weights = folder / RESULT / "adapter_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else ""
