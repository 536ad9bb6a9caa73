"""Real workers that start in tenths of a second: forks of one process that has loaded torch and trained nothing.

The mother is `python -m tests.unit.trainer.joint.workers`; each fork runs what `python -m
services.trainer.joint.worker FOLDER` runs, over pipes that the test holds.  Only the encoding process is not started
for each: a fork encodes in itself, with a tokenizer that the mother has loaded.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from services.chassis.model_cache import read_digest
from services.chassis.models import ModelSettings
from services.trainer.settings import Settings
from services.trainer.work import LAST, RESULT, Command, Do, Line, Said, Work, WorkerOrder

WAIT_SECONDS = 60.0


class Mother:
    """The process that is forked from.  Encodes for the base in `base`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        cache = base.parent / "cache"
        compiled = ModelSettings().cache_dir.expanduser().absolute() / "native"
        for folder in (compiled, cache):
            folder.mkdir(parents=True, exist_ok=True)
        (cache / "native").symlink_to(compiled)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.unit.trainer.joint.workers",
                str(theirs.fileno()),
                str(base),
                str(os.getpid()),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            # The machine is measured by the first worker, for all.
            env=os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
                "TRIVIUM_CACHE_DIR": str(base.parent / "cache"),
            },
        )
        theirs.close()
        self._socket = ours

    def fork(self, folder: Path, *, kill_at: int = 0, cpu_seconds: float = 0.0) -> "Running":
        """Start a worker in `folder`; it kills itself at write point `kill_at`, counted from 1 (0: never).

        With `cpu_seconds` it encodes in a process of its own, as a deployment's does, bounded by them.
        """
        commands, write_end = os.pipe()
        read_end, lines = os.pipe()
        request = json.dumps({"folder": str(folder), "kill_at": kill_at, "cpu_seconds": cpu_seconds}).encode()
        socket.send_fds(self._socket, [request], [commands, lines])
        os.close(commands)
        os.close(lines)
        pid = int(self._socket.recv(64))
        return Running(pid, os.fdopen(write_end, "wb", buffering=0), os.fdopen(read_end, "rb"), os.pidfd_open(pid))

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait(WAIT_SECONDS)


@dataclass(slots=True)
class Running:
    """A worker, and all that it has said."""

    pid: int
    commands: BinaryIO
    output: BinaryIO
    # Readable once the process is gone.
    handle: int
    said: list[Line] = field(default_factory=list)

    def tell(self, command: Command) -> None:
        """Give it a command."""
        self.commands.write(command.encode())

    def lines(self) -> Iterator[Line]:
        """What it says from now on, until it ends."""
        for raw in self.output:
            line = Line.decode(raw)
            assert line is not None, f"not a line: {raw!r}"
            self.said.append(line)
            yield line

    def until(self, wanted: Callable[[Line], bool]) -> Line:
        """Wait for a line."""
        for line in self.lines():
            if wanted(line):
                return line
        raise AssertionError(f"the worker ended; it said {[line for line in self.said if line.said is not Said.STEP]}")

    def end(self) -> list[Line]:
        """Close its input, wait until it has ended; return all that it ever said."""
        self.commands.close()
        for _ in self.lines():
            pass
        self.output.close()
        select.select([self.handle], [], [])
        os.close(self.handle)
        return self.said

    def trains_until_killed(self, folders: Sequence[Path]) -> bool:
        """Train jobs until the worker kills itself, as it was started to; False when all have ended before that."""
        for folder in folders:
            self.tell(join(folder))
        ended = 0
        for line in self.lines():
            ended += is_last(line)
            if ended == len(folders):
                break
        self.kill()
        return ended < len(folders)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.commands.close()
        # Half a line is what a kill leaves.
        self.output.read()
        self.output.close()
        select.select([self.handle], [], [])
        os.close(self.handle)


@dataclass(frozen=True, slots=True)
class Bench:
    """A folder with a base, workers and jobs."""

    root: Path
    base: Path
    mother: Mother

    def worker(self, base: Path | None = None, digest: str = "", **options: Any) -> Running:
        """Start a worker over a base, whose digest is the one it has now unless another is given."""
        folder, base = self.root / "worker", base or self.base
        digest = digest or read_digest(base)
        WorkerOrder(str(base), "tiny", digest, 1, "bfloat16", str(self.root), 1 << 30).write(folder)
        return self.mother.fork(folder, **options)

    def job(self, name: str, settings: Settings, rows: str, **order: Any) -> Path:
        """Write a job's order, with its rows beside it; return its folder."""
        folder = self.root / "jobs" / name
        folder.mkdir(parents=True)
        data = folder.with_suffix(".jsonl")
        data.write_text(rows)
        work = Work(str(self.base), "tiny", str(data), settings, threads=1, data_dir=str(self.root))
        replace(work, **order).write(folder)
        return folder


def join(folder: Path, epoch: int = 1, **rest: Any) -> Command:
    """The command for the job in `folder`."""
    return Command(Do.JOIN, job=folder.name, tenant="t", folder=str(folder), epoch=epoch, priority=1, **rest)


def is_last(line: Line) -> bool:
    """Whether the worker holds the job no more."""
    return line.said in LAST


def digest(folder: Path) -> str:
    """SHA-256 of the adapter that a job made."""
    import hashlib

    return hashlib.sha256((folder / RESULT / "adapter_model.safetensors").read_bytes()).hexdigest()


def main(connection: int, base: Path, parent: int) -> None:
    """Load, then fork on request until the other end closes."""
    from services.chassis.processes import die_with_parent

    die_with_parent(parent)
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    import services.trainer.joint.composition
    from services.trainer.data.examples import ChatEncoder

    del services, peft
    torch.set_num_threads(1)
    # What is imported only now is not imported by every fork.  A backward pass in here would forbid them theirs.
    AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.bfloat16).generate(max_new_tokens=1)
    encoder = ChatEncoder.load(base)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    peer = socket.socket(fileno=connection)
    while True:
        text, files, _, _ = socket.recv_fds(peer, 1 << 16, 2)
        if not text:
            return
        pid = os.fork()
        if pid == 0:
            peer.close()
            _child(json.loads(text), files, encoder)
        for file in files:
            os.close(file)
        peer.send(str(pid).encode())


def _child(request: dict[str, Any], files: list[int], encoder: Any) -> None:
    from services.chassis.processes import die_with_parent
    from services.trainer.joint.encoder import Bounds, DatasetEncoder, Encoder
    from services.trainer.joint.worker import end_with_threads, run

    status = 1
    try:
        die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        end_with_threads()
        seen: list[str] = []

        def at(point: str) -> None:
            seen.append(point)
            if len(seen) == request["kill_at"]:
                os.kill(os.getpid(), signal.SIGKILL)

        commands, lines = os.fdopen(files[0], "rb"), os.fdopen(files[1], "wb", buffering=0)
        folder = Path(request["folder"])
        own: DatasetEncoder = InProcess(encoder)
        if request["cpu_seconds"]:
            base = Path(WorkerOrder.read(folder).base_folder)
            own = Encoder(base, Bounds(cpu_seconds=request["cpu_seconds"]))
        run(folder, commands, lines, encoder=own, at=at)
        status = 0
    except BaseException:  # noqa: BLE001  # the fork must never return into its mother's loop
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class InProcess:
    """Encodes in this process."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def encode(self, folder: Path, size_bytes: int) -> Any:
        """As DatasetEncoder.encode."""
        from services.trainer.joint.dataset import Splits
        from services.trainer.joint.encoder import Encoded
        from services.trainer.joint.encoding import read

        found = read(Work.read(folder), self._encoder)
        rows = Splits(found.training, found.held_out, turn_ends=found.turn_ends)
        return Encoded(rows, found.messages, found.facts)

    def close(self) -> None:
        """As DatasetEncoder.close."""


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
