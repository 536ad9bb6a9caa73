"""Real workers that start in tenths of a second: forks of one process that has loaded torch and trained nothing.

Each fork runs what `python -m services.trainer.joint.worker FOLDER` runs, over pipes that the test holds.  Only the
encoding process is not started for each: a fork encodes in itself, with a tokenizer that the mother has loaded.
"""

import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from services.chassis.model_cache import read_digest
from services.chassis.models import ModelSettings
from services.trainer.settings import Settings
from services.trainer.work import LAST, RESULT, Command, Do, Line, Said, Work, WorkerOrder
from tests.harness.forks import KillAt
from tests.zygote import Zygote


class Mother:
    """The process that is forked from.  Encodes for the base in `base`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        cache = base.parent / "cache"
        compiled = ModelSettings().cache_dir.expanduser().absolute() / "native"
        for folder in (compiled, cache):
            folder.mkdir(parents=True, exist_ok=True)
        (cache / "native").symlink_to(compiled)
        environment = {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            # The machine is measured by the first worker, for all.
            "TRIVIUM_CACHE_DIR": str(cache),
        }
        self._zygote = Zygote(environment=environment)
        self._zygote.prepare(f"{__name__}:{prepare.__name__}", str(base))

    def fork(self, folder: Path, *, kill_at: int = 0, cpu_seconds: float = 0.0) -> "Running":
        """Start a worker in `folder`; it kills itself at write point `kill_at`, counted from 1 (0: never).

        With `cpu_seconds` it encodes in a process of its own, as a deployment's does, bounded by them.
        """
        commands, write_end = os.pipe()
        read_end, lines = os.pipe()
        files = {0: commands, 1: lines}
        process = self._zygote.call(f"{__name__}:{work.__name__}", str(folder), kill_at, cpu_seconds, files=files)
        os.close(commands)
        os.close(lines)
        return Running(
            process.pid, os.fdopen(write_end, "wb", buffering=0), os.fdopen(read_end, "rb"), process.released()
        )

    def close(self) -> None:
        """End it."""
        self._zygote.close()


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


# Set in the process that is forked from.
_encoder: Any = None


def prepare(base: str) -> None:
    """Load what workers load, and a base's tokenizer."""
    global _encoder
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    import services.trainer.joint.composition
    from services.trainer.data.examples import ChatEncoder

    del services, peft
    torch.set_num_threads(1)
    # What is imported only now is not imported by every fork.  A backward pass in here would forbid them theirs.
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).generate(max_new_tokens=1)
    _encoder = ChatEncoder.load(Path(base))


def work(folder: str, kill_at: int, cpu_seconds: float) -> None:
    """Run a worker, in a fork: as `main` of `joint.worker`, which may kill itself."""
    from services.trainer.joint.encoder import Bounds, DatasetEncoder, Encoder
    from services.trainer.joint.worker import end_with_threads, run

    end_with_threads()
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    own: DatasetEncoder = InProcess(_encoder)
    if cpu_seconds:
        own = Encoder(Path(WorkerOrder.read(Path(folder)).base_folder), Bounds(cpu_seconds=cpu_seconds))
    run(Path(folder), os.fdopen(0, "rb"), lines, encoder=own, at=KillAt(kill_at))


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
