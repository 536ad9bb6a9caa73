"""One limited child that compiles constraints, and what its answers and its death mean.

Invariant: a verdict is what the child said of a constraint, or its death while it worked
on that one.  A child that does not come up, or that somebody else ended, says nothing of
any constraint: the caller is asked to come again.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chassis import tasks
from services.chassis.errors import Failure
from services.chassis.processes import Child, say, spawn
from services.generator.engine import Constraint
from services.generator.places import not_ready

_LINE_BYTES = 1 << 20
_BEYOND = "it does not compile within the limits of time and memory"
# The compiler's own end: out of memory inside native code, a recursion that the stack cannot hold.
_CRASHES = frozenset({-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a constraint, empty when nothing is; ``lasting`` when it would be said again."""

    problem: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class Patience:
    """Wall time for a child to come up (most of it is its imports) and to answer (it limits its own processor time)."""

    start_seconds: float = 60.0
    answer_seconds: float = 60.0


def child_program(base_folder: Path) -> Sequence[str | Path]:
    """The command of the child for a base."""
    return [sys.executable, "-m", "services.generator.constraint_child", base_folder]


class Judge:
    """A child, started when it is first asked and again after it died.  One caller at a time, who stays."""

    def __init__(self, program: Sequence[str | Path], patience: Patience) -> None:
        self._program = program
        self._patience = patience
        self._start: asyncio.Task[Child] | None = None

    async def judge(self, constraint: Constraint) -> Verdict:
        """Let the child compile a constraint.  Raises NOT_READY when it says nothing of it."""
        child = await self._ready()
        try:
            async with asyncio.timeout(self._patience.answer_seconds):
                problem = await _exchange(child, constraint)
                status = await child.wait() if problem is None else 0
        except (TimeoutError, ConnectionError, ValueError) as error:
            await asyncio.shield(self.close())
            raise not_ready("a constraint could not be checked") from error
        if problem is not None:
            return Verdict(problem, lasting=True)
        if status == -signal.SIGPROF:
            return Verdict(_BEYOND, lasting=True)
        if status in _CRASHES:
            return Verdict(_BEYOND, lasting=False)
        raise not_ready("the check of constraints was interrupted")

    async def close(self) -> None:
        """End the child."""
        start, self._start = self._start, None
        if start is None:
            return
        with suppress(Failure):
            await tasks.end(start)
        if self._usable(start):
            await start.result().kill()

    async def _ready(self) -> Child:
        """The child once it takes questions."""
        if self._start is not None and self._start.done() and not self._usable(self._start):
            self._start = None
        if self._start is None:
            self._start = asyncio.create_task(self._come_up(), name="constraint child")
        return await asyncio.shield(self._start)

    def _usable(self, start: asyncio.Task[Child]) -> bool:
        return not start.cancelled() and start.exception() is None and start.result().process.returncode is None

    async def _come_up(self) -> Child:
        pipe = asyncio.subprocess.PIPE
        child = await spawn(
            self._program,
            env=_environment(),
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE_BYTES,
        )
        try:
            async with asyncio.timeout(self._patience.start_seconds):
                answer = await _line(child)
            if answer is None:
                raise not_ready("the check of constraints does not start")
        except (TimeoutError, ValueError) as error:
            await asyncio.shield(child.kill())
            raise not_ready("the check of constraints is slow to start") from error
        except (asyncio.CancelledError, Failure):
            await asyncio.shield(child.kill())
            raise
        return child


async def _exchange(child: Child, constraint: Constraint) -> str | None:
    """The problem that the child finds, empty for none; None when it ended instead."""
    assert child.process.stdin is not None
    task = {"kind": constraint.kind.value, "text": constraint.text, "choices": constraint.choices}
    say(child.process, json.dumps(task).encode() + b"\n")
    await child.process.stdin.drain()
    answer = await _line(child)
    return None if answer is None else str(answer["problem"])


async def _line(child: Child) -> Mapping[str, Any] | None:
    """The child's next line; None when it ended.  Raises ValueError for what is none of its lines."""
    assert child.process.stdout is not None
    line = await child.process.stdout.readline()
    if not line:
        return None
    said = json.loads(line)
    if not isinstance(said, dict) or "problem" not in said:
        raise ValueError("not a line of the child")
    return said


def _environment() -> dict[str, str]:
    return {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
