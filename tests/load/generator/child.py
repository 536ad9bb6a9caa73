"""One engine in a process of its own: ``python -m tests.load.generator.child SHAPE FOLDER``, tasks in, figures out.

FOLDER has the adapters of every shape.  Each line of standard input is a task as JSON; a line of standard output that
begins with ``SAYS`` has the answer, the speed in tokens a second (others are vLLM's own).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import uuid
from pathlib import Path

from services.chassis.models import ModelSettings, ResolvedModel, resolve
from services.chassis.resources import Role, shares
from services.generator.engine import EngineAdapter, Job, Sampling
from services.generator.engine_vllm import PLUGIN, VllmEngine, VllmSettings
from services.generator.plugin.identity import Identity
from tests.load.generator.shapes import SHAPES, Build, Shape, Task

SAYS = "engine:"
READY = "ready"
_KV_CACHE_BYTES = 1 << 28
_FIRST_ID, _LAST_ID = 1000, 40_000


def settings(shape: Shape, base: ResolvedModel) -> VllmSettings:
    """The engine's settings: those of the service, but for what is compared."""
    share = shares()[Role.ENGINE]
    return VllmSettings(
        base_folder=base.path,
        base=base.name,
        base_digest=base.digest,
        slots=shape.slots,
        kv_cache_bytes=_KV_CACHE_BYTES,
        cpu_ids=",".join(map(str, share.cpus[: share.threads])),
        plugins=PLUGIN if shape.build is Build.OURS else "",
        prefix_caching=False,
        enforce_eager=not shape.compiled,
        variables={name: value for name, value in share.environment().items() if not name.startswith("VLLM_")},
    )


class Bench:
    """The running engine and its adapters."""

    def __init__(self, engine: VllmEngine, adapters: list[EngineAdapter]) -> None:
        self._engine = engine
        self._adapters = adapters

    async def measured(self, task: Task) -> float:
        """Run a task; its speed in tokens a second."""
        begun = time.perf_counter()
        times = await asyncio.gather(*(self._times(task, place) for place in task.wears))
        if task.new_tokens == 1:
            return len(times) * task.prompt_tokens / (max(each[0] for each in times) - begun)
        # While the first prompts run alone, or the last requests, the batch is not the one that is asked about.
        first, last = max(each[0] for each in times), min(each[-1] for each in times)
        return sum(first < moment <= last for each in times for moment in each) / (last - first)

    async def _times(self, task: Task, place: int) -> list[float]:
        """When each new token of one request came."""
        prompt = random.choices(range(_FIRST_ID, _LAST_ID), k=task.prompt_tokens)
        sampling = Sampling(max_tokens=task.new_tokens, ignore_eos=True)
        adapter = self._adapters[place] if place >= 0 else None
        job = Job(uuid.uuid4().hex, prompt, sampling, None, adapter, cache_salt="")
        times: list[float] = []
        async for piece in self._engine.generate(job):
            times += [time.perf_counter()] * len(piece.token_ids)
        assert len(times) == task.new_tokens, f"{len(times)} tokens came, not {task.new_tokens}"
        return times


async def _serve(shape: Shape, folder: Path) -> None:
    base = resolve(ModelSettings().base_model)
    engine = VllmEngine(settings(shape, base))
    await engine.start()
    try:
        adapters = []
        for number in range(len(shape.ranks)):
            place = folder / shape.name / str(number)
            adapters.append(EngineAdapter(number + 1, f"bench@{Identity.read(place).version}", place))
            await engine.load(adapters[-1])
        bench = Bench(engine, adapters)
        print(SAYS, READY, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            task = Task(**json.loads(line))
            print(SAYS, await bench.measured(task), flush=True)
    finally:
        await engine.stop()


if __name__ == "__main__":
    wanted = next(shape for shape in SHAPES if shape.name == sys.argv[1])
    asyncio.run(_serve(wanted, Path(sys.argv[2])))
