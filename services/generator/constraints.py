"""Constraints from requests are compiled in limited children before the engine sees them.

Invariants: no constraint reaches the engine's process that did not compile within a
child's limits of time and memory.  A tenant occupies one child at most, also with what it
asked and left, and its verdicts are its own: neither its heavy constraints nor what is
known of them reach another.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from services.chassis.errors import Failure, Reason
from services.generator.constraint_judge import Judge, Patience
from services.generator.engine import Constraint, ConstraintKind

_REMEMBERED = 1024


class ConstraintCheck:
    """The children, each started when the others are busy, and their former verdicts."""

    def __init__(self, program: Sequence[str | Path], *, children: int = 2, patience: Patience | None = None) -> None:
        self._judges = [Judge(program, patience or Patience()) for _ in range(children)]
        # Last in, first out: a second child is started only when the first is busy.
        self._idle: asyncio.LifoQueue[Judge] = asyncio.LifoQueue()
        for judge in self._judges:
            self._idle.put_nowait(judge)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._begun: set[asyncio.Task[str]] = set()
        self._verdicts: OrderedDict[tuple[str, Constraint], str] = OrderedDict()

    async def require_compilable(self, constraint: Constraint, tenant: str, field: str = "structured_output") -> None:
        """Raise FIELD_INVALID of ``field``, with the problem, unless the constraint compiles within the limits.

        Raises NOT_READY when no child could say.
        """
        if constraint.kind is ConstraintKind.JSON_OBJECT:
            return
        problem = self._verdicts.get((tenant, constraint))
        if problem is None:
            problem = await self._found_out(constraint, tenant)
        if problem:
            raise Failure(Reason.FIELD_INVALID, field=field, problem=problem)

    async def rest(self) -> None:
        """End the children that have nothing to do; each starts again when it is asked."""
        resting = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        try:
            for judge in resting:
                await judge.close()
        finally:
            for judge in resting:
                self._idle.put_nowait(judge)

    async def close(self) -> None:
        """End the children."""
        for task in self._begun:
            task.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)
        for judge in self._judges:
            await judge.close()

    async def _found_out(self, constraint: Constraint, tenant: str) -> str:
        """The problem.  What is begun is finished when its caller leaves: until then neither child nor turn is free."""
        turn = self._turns.setdefault(tenant, asyncio.Lock())
        await turn.acquire()
        task = asyncio.create_task(self._judged(constraint, tenant), name="constraint")
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        task.add_done_callback(lambda _: turn.release())
        return await asyncio.shield(task)

    async def _judged(self, constraint: Constraint, tenant: str) -> str:
        known = self._verdicts.get((tenant, constraint))
        if known is not None:
            return known
        judge = await self._idle.get()
        try:
            verdict = await judge.judge(constraint)
        finally:
            self._idle.put_nowait(judge)
        if verdict.lasting:
            self._verdicts[tenant, constraint] = verdict.problem
            while len(self._verdicts) > _REMEMBERED:
                self._verdicts.popitem(last=False)
        return verdict.problem
