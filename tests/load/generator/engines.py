"""Engines in child processes, alive side by side, asked one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.load.generator import adapters
from tests.load.generator.adapters import Recipe
from tests.load.generator.child import READY, SAYS
from tests.load.generator.shapes import Shape, Task


class Engine:
    """A running engine of one shape."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def wait_ready(self) -> None:
        """Return once it takes tasks.  Raises RuntimeError when it ends first."""
        if self._said() != READY:
            raise RuntimeError("an engine did not start; what it wrote stands above")

    def speed(self, task: Task) -> float:
        """Run a task; tokens a second.  Raises RuntimeError when the engine ends."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(asdict(task)) + "\n")
        self._child.stdin.flush()
        return float(self._said())

    def _said(self) -> str:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith(SAYS):
                return line.removeprefix(SAYS).strip()
        raise RuntimeError("an engine ended; what it wrote stands above")


@contextmanager
def running(shapes: Sequence[Shape], base: Path, folder: Path) -> Iterator[dict[Shape, Engine]]:
    """Start an engine of each shape, with its adapters below ``folder``; they end with the block."""
    with ExitStack() as ending:
        engines = {}
        for shape in shapes:
            for number, rank in enumerate(shape.ranks):
                adapters.write(base, folder / shape.name / str(number), Recipe(rank, seed=number))
            command = [sys.executable, "-m", "tests.load.generator.child", shape.name, str(folder)]
            quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
            child = subprocess.Popen(command, env=quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            ending.enter_context(child)
            ending.callback(child.terminate)
            engines[shape] = Engine(child)
            # One after the other: together they would take more memory than they keep.
            engines[shape].wait_ready()
        yield engines
