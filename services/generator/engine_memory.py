"""The host memory of a vLLM engine's workers, asked over vLLM's own calls; see ``plugin.memory``.

Every worker of an engine holds its own part of an adapter; what is told is their sum.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.generator.engine import EngineAdapter, EngineRefused

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

# A call waits for the step that runs; between two of them there is nothing to gain.
_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.05


async def lift(llm: AsyncLLM, adapter: EngineAdapter) -> int:
    """Have every worker read an adapter; the bytes it takes.  Raises EngineRefused, and what vLLM raises."""
    told = (adapter.engine_id, adapter.name, str(adapter.folder.absolute()))
    await llm.collective_rpc("trivium_lift", args=told)
    pause_seconds = _FIRST_PAUSE_SECONDS
    ended: list[tuple[int, str]] = []
    while not ended:
        # A worker cannot call back.
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
        ended = await _ended(llm, adapter)
    problem = next((problem for _, problem in ended if problem), "")
    if problem:
        await drop(llm, adapter)
        raise EngineRefused(problem)
    return sum(weight_bytes for weight_bytes, _ in ended)


async def _ended(llm: AsyncLLM, adapter: EngineAdapter) -> list[tuple[int, str]]:
    """What each worker says of its reading; empty while one of them reads."""
    told = await llm.collective_rpc("trivium_lifted", args=(adapter.engine_id,))
    return [] if None in told else told


async def lower(llm: AsyncLLM, adapter: EngineAdapter) -> int:
    """Out of its slot into host memory; the bytes it takes there."""
    return sum(await llm.collective_rpc("trivium_lower", args=(adapter.engine_id,)))


async def drop(llm: AsyncLLM, adapter: EngineAdapter) -> None:
    """Out of host memory."""
    await llm.collective_rpc("trivium_drop", args=(adapter.engine_id,))


async def kept(llm: AsyncLLM) -> dict[int, int]:
    """Bytes by id of everything in host memory and no slot."""
    found: dict[int, int] = {}
    for worker in await llm.collective_rpc("trivium_kept"):
        for engine_id, weight_bytes in worker.items():
            found[int(engine_id)] = found.get(int(engine_id), 0) + weight_bytes
    return found
