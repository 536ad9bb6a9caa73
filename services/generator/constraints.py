"""Constraints from requests are compiled in a limited child before the engine sees them.

Invariant: no constraint reaches the engine's process that did not compile within the
child's limits of time and memory.  A child that dies has refused; the next constraint
gets a new one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.chassis.processes import Child, spawn
from services.generator.engine import Constraint, ConstraintKind

# Wall time: most of it is the child's imports, the first time.
_SECONDS = 60.0
_REMEMBERED = 1024
_LINE_BYTES = 1 << 20


class ConstraintCheck:
    """The child, started when the first constraint comes, and its former verdicts."""

    def __init__(self, base_folder: Path) -> None:
        self._base_folder = base_folder
        self._child: Child | None = None
        self._turn = asyncio.Lock()
        self._verdicts: OrderedDict[Constraint, str] = OrderedDict()

    async def require_compilable(self, constraint: Constraint) -> None:
        """Raise FIELD_INVALID, with the problem, unless the constraint compiles within the limits."""
        if constraint.kind is ConstraintKind.JSON_OBJECT:
            return
        async with self._turn:
            if constraint not in self._verdicts:
                self._verdicts[constraint] = await self._judge(constraint)
                while len(self._verdicts) > _REMEMBERED:
                    self._verdicts.popitem(last=False)
            problem = self._verdicts[constraint]
        if problem:
            raise Failure(Reason.FIELD_INVALID, field="structured_output", problem=problem)

    async def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None and child.process.returncode is None:
            await child.kill()

    async def _judge(self, constraint: Constraint) -> str:
        task = {"kind": constraint.kind.value, "text": constraint.text, "choices": constraint.choices}
        try:
            async with asyncio.timeout(_SECONDS):
                child = await self._running()
                assert child.process.stdin is not None
                assert child.process.stdout is not None
                child.process.stdin.write(json.dumps(task).encode() + b"\n")
                await child.process.stdin.drain()
                line = await child.process.stdout.readline()
            return str(json.loads(line)["problem"])
        except (TimeoutError, ValueError, ConnectionError):
            await asyncio.shield(self.close())
            return "it does not compile within the limits of time and memory"
        except asyncio.CancelledError:
            # Its answer would be taken for the next one's.
            await asyncio.shield(self.close())
            raise

    async def _running(self) -> Child:
        if self._child is None or self._child.process.returncode is not None:
            pipe = asyncio.subprocess.PIPE
            self._child = await spawn(
                [sys.executable, "-m", "services.generator.constraint_child", self._base_folder],
                env=_environment(),
                stdin=pipe,
                stdout=pipe,
                stderr=asyncio.subprocess.DEVNULL,
                limit=_LINE_BYTES,
            )
        return self._child


def _environment() -> dict[str, str]:
    return {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
