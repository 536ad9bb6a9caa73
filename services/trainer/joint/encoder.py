"""Has datasets encoded by a process that may be killed for it: a worker's while it goes on training, a solo job's before it.

Invariant: whatever a dataset or a template does, it ends that one job; the next one finds a fresh process.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.chassis.child_side import ran_out_of_memory, ran_out_of_time
from services.trainer.conduct import Refused
from services.trainer.data.confined import ENVIRONMENT
from services.trainer.joint.dataset import Kind, Rows, Splits
from services.trainer.joint.encoding_child import READY

_LOOK_SECONDS = 0.2
_BLOCK_BYTES = 1 << 16
_TOO_LARGE = (
    "Reading the dataset and rendering it with the base's template takes more memory than it may. Shorten its rows, or "
    "split the file."
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What reading one job's dataset may take: processor time in seconds, and memory; more for larger files.

    A row in Python takes some hundred times the bytes that it has in the file.
    """

    cpu_seconds: float = 60.0
    bytes_per_cpu_second: int = 32 * 1024
    memory_bytes: int = 1 << 30
    memory_per_byte: int = 128
    # A process that uses no processor time is given up all the same; a busy machine alone must not be the reason.
    wall_factor: float = 20.0
    start_seconds: float = 600.0

    def seconds(self, size_bytes: int) -> float:
        """Processor time for files of this size."""
        return self.cpu_seconds + size_bytes / self.bytes_per_cpu_second

    def memory(self, size_bytes: int) -> int:
        """Memory for files of this size."""
        return self.memory_bytes + size_bytes * self.memory_per_byte


@dataclass(frozen=True, slots=True)
class Encoded:
    """A job's rows, what people should know of them, and facts that belong to the version."""

    splits: Splits
    messages: tuple[str, ...]
    facts: Mapping[str, object]


class DatasetEncoder(Protocol):
    """Reads the files of jobs.  Used by one thread."""

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        """Encode the files of the job in `folder`, which have so many bytes.  Raises Refused, and OSError for files."""

    def close(self) -> None:
        """No more will be asked for."""


class _ProcessLost(Exception):
    """The process ended without an answer."""


class Encoder:
    """One encoding process, started when it is first needed.  Used by one thread, which must outlive it.

    ``keep`` is called every so often while it is waited for: to give way to who began to serve (`Manners.keep`).
    """

    def __init__(
        self, base_folder: Path, bounds: Bounds | None = None, *, keep: Callable[[], None] = lambda: None
    ) -> None:
        self._base_folder = base_folder
        self._keep = keep
        self._bounds = bounds or Bounds()
        self._child: subprocess.Popen[bytes] | None = None

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        """As DatasetEncoder.encode."""
        cpu_seconds = self._bounds.seconds(size_bytes)
        memory_bytes = self._bounds.memory(size_bytes)
        request = {"folder": str(folder), "memory_bytes": memory_bytes, "cpu_seconds": cpu_seconds}
        try:
            return self._ask(request, cpu_seconds)
        except _ProcessLost:
            # Once may be the machine's doing; twice it is the dataset's.
            return self._again(request, cpu_seconds)

    def close(self) -> None:
        """End the process, if one runs."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _again(self, request: dict[str, Any], cpu_seconds: float) -> Encoded:
        try:
            return self._ask(request, cpu_seconds)
        except _ProcessLost as lost:
            raise Refused("DATASET_UNCHECKED", "The process that reads the dataset ends. Shorten its rows.") from lost

    def _ask(self, request: dict[str, Any], cpu_seconds: float) -> Encoded:
        child = self._child if self._child is not None and self._child.poll() is None else self._start()
        try:
            assert child.stdin is not None
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            answer = _Answer(child, cpu_seconds * self._bounds.wall_factor, self._keep)
            found: dict[str, Any] = json.loads(answer.line())
            splits = [Rows.decode(answer.take(size), Kind(found["kind"])) for size in found.get("sizes", ())]
        except (BrokenPipeError, TimeoutError) as error:
            self.close()
            if ran_out_of_time(child.returncode):
                why = f"rendering the dataset with the base's template takes over {cpu_seconds:.0f} s"
                raise Refused("SETTINGS_UNFIT", why) from error
            if ran_out_of_memory(child.returncode):
                raise Refused("DATASET_UNCHECKED", _TOO_LARGE) from error
            raise _ProcessLost from error
        if "reason" in found:
            raise Refused(found["reason"], found["message"])
        if "errno" in found:
            raise OSError(found["errno"], os.strerror(found["errno"]))
        training, *held_out = splits
        rows = Splits(training, held_out[0] if held_out else None, turn_ends=tuple(found["turn_ends"]))
        return Encoded(rows, tuple(found["messages"]), found["facts"])

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "services.trainer.joint.encoding_child", str(self._base_folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What it would say of an exception may quote the rows.
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
        )
        try:
            if _Answer(self._child, self._bounds.start_seconds, self._keep).line() != READY:
                raise _ProcessLost
        except (BrokenPipeError, TimeoutError) as error:
            self.close()
            raise _ProcessLost from error
        return self._child


class _Answer:
    """What a child says, within a time.  Raises TimeoutError when that is over, BrokenPipeError when it has ended."""

    def __init__(self, child: subprocess.Popen[bytes], seconds: float, keep: Callable[[], None]) -> None:
        assert child.stdout is not None
        self._descriptor = child.stdout.fileno()
        self._left_seconds = seconds
        self._keep = keep
        self._read = bytearray()

    def line(self) -> bytes:
        """The next line, with its end."""
        while b"\n" not in self._read:
            self._more()
        return self.take(self._read.index(b"\n") + 1)

    def take(self, count: int) -> bytes:
        """So many bytes."""
        while len(self._read) < count:
            self._more()
        with memoryview(self._read) as read:
            found = bytes(read[:count])
        del self._read[:count]
        return found

    def _more(self) -> None:
        began = time.monotonic()
        while not select.select([self._descriptor], [], [], _LOOK_SECONDS)[0]:
            # This process may be put to rest meanwhile, and the child with it: that is nobody's fault.
            self._left_seconds -= min(time.monotonic() - began, 2 * _LOOK_SECONDS)
            if self._left_seconds < 0:
                raise TimeoutError
            self._keep()
            began = time.monotonic()
        block = os.read(self._descriptor, _BLOCK_BYTES)
        if not block:
            raise BrokenPipeError
        self._read += block
