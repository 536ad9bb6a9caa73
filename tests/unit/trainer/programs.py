"""Programs that train, as forks of a process that has loaded what they load: imports take each of them ten seconds."""

import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tests import tied
from tests.zygote import Forked


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and what it printed."""

    status: int
    output: str
    errors: str


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs."""

    process: Forked
    output: BinaryIO
    errors: BinaryIO

    def ended(self, seconds: float) -> Ended:
        """Wait for the end.  Raises TimeoutExpired."""
        status = self.process.wait(seconds)
        said = []
        for file in (self.output, self.errors):
            file.seek(0)
            said.append(file.read().decode())
            file.close()
        return Ended(status, *said)


def start(module: str, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Program:
    """Start what `python -m MODULE ARGUMENT ...` runs, with these variables added to the environment."""
    output, errors = (cast(BinaryIO, tempfile.TemporaryFile()) for _ in range(2))  # noqa: SIM115, closed by Program.ended
    environment = {**os.environ, **(env or {})}
    words = [module, *map(str, arguments)]
    files = {1: output.fileno(), 2: errors.fileno()}
    process = tied.call_in_fork_of_trainers(f"{__name__}:{run.__name__}", words, environment, files=files)
    return Program(process, output, errors)


def run(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the program, in the fork."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
