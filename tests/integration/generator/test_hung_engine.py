"""A real engine whose core lives and does nothing: it is killed and rebuilt, and who had heard nothing is answered."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.asking import Done
from services.generator.engine import EngineAdapter, EngineLost
from services.generator.engine_vllm import VllmEngine, VllmSettings
from services.generator.generation import Generation, Sources
from services.generator.hosts import Host
from services.generator.places import Limits, Slots
from services.generator.prompts import Prompts
from services.generator.supervision import EngineState
from tests.unit.generator.answering import AlwaysOn, Found, Permissions, Renders, Shelf, ask, blocking
from tests.unit.generator.engines import hosted

pytestmark = pytest.mark.asyncio(loop_scope="module")
# Far less than a start takes, and more than a step.
STALL_SECONDS = 4.0
REBUILD_SECONDS = 180.0


class Hung:
    """A supervised engine, the verb over it, and for how long it had hung whenever it was killed."""

    def __init__(self) -> None:
        base = resolve(DEFAULT_BASE)
        settings = VllmSettings(
            base.path, base.name, base.digest, slots=1, kv_cache_bytes=1 << 28, stall_seconds=STALL_SECONDS
        )
        self.stalls: list[float] = []
        self.engine = VllmEngine(settings, stalled=self.stalls.append)
        slots = Slots(self.engine, Limits(8, 8), time.monotonic)
        self.host: Host = hosted(self.engine, slots, lambda now, why: None)
        sources = Sources(iter(f"id-{n}" for n in range(99)).__next__, lambda: 77, time.monotonic, blocking)
        prompts = Prompts(Renders(), blocking)
        self._verb = Generation(Found(self.host), AlwaysOn(), Shelf(), Permissions(), prompts, sources)

    async def answer(self) -> Done:
        """Have the base answer."""
        parts = [part async for part in self._verb.answer(ask(max_tokens=4), "tenant")]
        assert isinstance(parts[-1], Done)
        return parts[-1]

    async def until(self, condition: Callable[[], bool], seconds: float = REBUILD_SECONDS) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """The engine lives while the block lasts."""
        self.host.life = life = asyncio.create_task(self.host.supervisor.run())
        try:
            await self.until(lambda: self.host.supervisor.state is EngineState.READY)
            yield
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hung() -> AsyncIterator[Hung]:
    """An engine that may be silent for a few seconds only."""
    running = Hung()
    async with running.supervised():
        yield running


def stop_core(hung: Hung) -> int:
    (core,) = hung.engine.process_ids
    os.kill(core, signal.SIGSTOP)
    return core


def gone(core: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(core, 0)
        return False
    return True


async def test_who_waits_for_an_engine_that_hangs_is_answered_by_the_next_one(hung: Hung, tmp_path: Path) -> None:
    assert (await hung.answer()).completion_tokens == 4
    # Nobody asks for anything: that is no silence, and the slow start before it was none.
    await asyncio.sleep(1.5 * STALL_SECONDS)
    assert (hung.stalls, hung.host.supervisor.restarts) == ([], 0)
    core = stop_core(hung)
    loading = asyncio.create_task(hung.engine.load(EngineAdapter(7, "m@v", tmp_path)))
    async with asyncio.timeout(REBUILD_SECONDS):
        done = await hung.answer()
        with pytest.raises(EngineLost):
            await loading
    assert done.completion_tokens == 4
    assert "rebuild" in [stage.name for stage in done.stages]
    assert (len(hung.stalls), hung.host.supervisor.restarts) == (1, 1)
    assert STALL_SECONDS <= hung.stalls[0] < 2 * STALL_SECONDS
    assert gone(core)


async def test_a_load_whose_engine_dies_is_told_so(hung: Hung, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stalls = len(hung.stalls)
    # The last of this engine's lives.
    monkeypatch.setattr(hung.engine, "start", asyncio.Event().wait)
    core = stop_core(hung)
    loading = asyncio.create_task(hung.engine.load(EngineAdapter(8, "m@v", tmp_path)))
    await asyncio.sleep(0.5)
    os.kill(core, signal.SIGKILL)
    with pytest.raises(EngineLost):
        async with asyncio.timeout(STALL_SECONDS):
            await loading
    await hung.until(lambda: hung.host.supervisor.state is EngineState.STARTING)
    assert len(hung.stalls) == stalls
