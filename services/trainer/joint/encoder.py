"""Has a worker's datasets encoded by a process that may be killed for it, while the worker goes on training.

Invariant: whatever a dataset or a template does, it ends that one job; the next one finds a fresh process.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from services.trainer.conduct import Refused
from services.trainer.joint.dataset import Kind, Rows
from services.trainer.joint.encoding_child import HELD_OUT, TRAINING
from services.trainer.joint.member import Splits

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Bounds:
    """What reading one job's dataset may take: processor time in seconds, and memory; more for larger files.

    A row in Python takes some hundred times the bytes that it has in the file.
    """

    cpu_seconds: float = 60.0
    bytes_per_cpu_second: int = 32 * 1024
    memory_bytes: int = 1 << 30
    memory_per_byte: int = 128

    def seconds(self, size_bytes: int) -> float:
        """Processor time for files of this size."""
        return self.cpu_seconds + size_bytes / self.bytes_per_cpu_second

    def memory(self, size_bytes: int) -> int:
        """Memory for files of this size."""
        return self.memory_bytes + size_bytes * self.memory_per_byte


@dataclass(frozen=True, slots=True)
class Encoded:
    """A job's rows, and what people should know of them."""

    splits: Splits
    messages: tuple[str, ...]


class DatasetEncoder(Protocol):
    """Reads the files of jobs.  Used by one thread."""

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        """Encode the files of the job in `folder`, which have so many bytes.  Raises Refused."""

    def close(self) -> None:
        """No more will be asked for."""


class _ProcessLost(Exception):
    """The process ended without an answer."""


class Encoder:
    """One encoding process, started when it is first needed.  Used by one thread, which must outlive it."""

    def __init__(self, base_folder: Path, scratch: Path, bounds: Bounds | None = None) -> None:
        self._base_folder = base_folder
        self._scratch = scratch
        self._bounds = bounds or Bounds()
        self._child: subprocess.Popen[bytes] | None = None

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        """As DatasetEncoder.encode."""
        with tempfile.TemporaryDirectory(dir=self._scratch) as into:
            request = {"folder": str(folder), "into": into, "memory_bytes": self._bounds.memory(size_bytes)}
            try:
                found = self._ask(request, self._bounds.seconds(size_bytes))
            except _ProcessLost:
                # Once may be the machine's doing; twice it is the dataset's.
                found = self._again(request, self._bounds.seconds(size_bytes))
            if "reason" in found:
                raise Refused(found["reason"], found["message"])
            kind = Kind(found["kind"])
            held_out = Rows.load(Path(into) / HELD_OUT, kind) if found["held_out"] else None
            return Encoded(Splits(Rows.load(Path(into) / TRAINING, kind), held_out), tuple(found["messages"]))

    def close(self) -> None:
        """End the process, if one runs."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _again(self, request: dict[str, Any], cpu_seconds: float) -> dict[str, Any]:
        try:
            return self._ask(request, cpu_seconds)
        except _ProcessLost as lost:
            raise Refused("DATASET_UNCHECKED", "The process that reads the dataset ends. Shorten its rows.") from lost

    def _ask(self, request: dict[str, Any], cpu_seconds: float) -> dict[str, Any]:
        try:
            child = self._running()
            assert child.stdin is not None
            process = psutil.Process(child.pid)
            until = _used_seconds(process) + cpu_seconds
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            found: dict[str, Any] = json.loads(_line(child, lambda: _used_seconds(process) > until))
        except (BrokenPipeError, psutil.Error) as error:
            self.close()
            raise _ProcessLost from error
        except TimeoutError as error:
            self.close()
            why = f"rendering the dataset with the base's template takes over {cpu_seconds:.0f} s"
            raise Refused("SETTINGS_UNFIT", why) from error
        return found

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "services.trainer.joint.encoding_child", str(self._base_folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # What it would say of an exception may quote the rows.
                stderr=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
            )
            _line(self._child, lambda: False)
        return self._child


def _line(child: subprocess.Popen[bytes], late: Callable[[], bool]) -> bytes:
    """The child's next line.  Raises TimeoutError when it is late, BrokenPipeError when it has ended instead."""
    assert child.stdout is not None
    said = b""
    while not said.endswith(b"\n"):
        if select.select([child.stdout], [], [], _LOOK_SECONDS)[0]:
            block = os.read(child.stdout.fileno(), 1 << 16)
            if not block:
                raise BrokenPipeError
            said += block
        elif late():
            raise TimeoutError
    return said


def _used_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
