"""vLLM's AsyncLLM as an Engine: its processes, and calls (``vllm_settings``, ``vllm_values`` say in which terms).

Invariants: the environment that vLLM reads is set before vLLM is imported; the engine
is built on a thread that lives as long as it does, because its children die with that
thread (``plugin.lifeline``); ``load_inplace`` is never set; an engine whose worker does
not attest a base request as slot -1 at start is refused, since that means the plugin
is not at work.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from services.chassis.foreign import translated
from services.chassis.garbage import set_apart
from services.generator import engine_memory
from services.generator.engine import (
    BASE_SLOT,
    EngineAdapter,
    EngineFacts,
    EngineLost,
    EngineRefused,
    Job,
    Piece,
    Sampling,
)
from services.generator.footprint import processes_of, wait_until_gone
from services.generator.plugin import VLLM_VERSION, require_pinned_vllm
from services.generator.stalls import Pulse
from services.generator.vllm_settings import PLUGIN, VllmSettings, arguments, environment
from services.generator.vllm_values import lora_request, piece_of, priority, sampling_params

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

__all__ = ["PLUGIN", "VllmEngine", "VllmSettings"]

T = TypeVar("T")

_PROBE = "probe"
_DEATH_POLL_SECONDS = 0.2
# An engine core has nothing to save; what it runs is lost in any case.
_STOP_SECONDS = 1.0
_GONE_SECONDS = 10.0
_MAX_CAUSE = 500


class VllmEngine:
    """One AsyncLLM and the thread that owns its processes.

    ``stalled`` hears for how many seconds it hung when it is killed.
    """

    def __init__(
        self, settings: VllmSettings, name: str = "engine-0", stalled: Callable[[float], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._stalled = stalled
        self._llm: AsyncLLM | None = None
        self._owner: ThreadPoolExecutor | None = None
        self._pulse = Pulse(settings.stall_seconds, self._question)
        self._watching: asyncio.Task[None] | None = None
        # Set when the engine of this life is gone.
        self._lost = asyncio.Event()
        self._facts = EngineFacts(
            name=name,
            build=f"vllm {VLLM_VERSION}+trivium",
            base=settings.base,
            base_digest=settings.base_digest,
            slots=settings.slots,
            max_rank=settings.max_rank,
            context_tokens=settings.context_tokens,
        )

    @property
    def facts(self) -> EngineFacts:
        """What this engine is."""
        return self._facts

    @property
    def alive(self) -> bool:
        """Whether vLLM runs and has not reported its core dead."""
        return self._llm is not None and not self._llm.errored

    async def start(self) -> None:
        """Build AsyncLLM and probe it with one base token.  Raises EngineLost, VllmVersionMoved."""
        require_pinned_vllm()
        os.environ.update(environment(self._settings))
        self._owner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-owner")
        self._lost = asyncio.Event()
        async with AsyncExitStack() as undo:
            undo.push_async_callback(lambda: asyncio.shield(self.stop()))
            try:
                # What a model makes vLLM and its libraries raise is theirs to choose; the cause may be in the log only.
                with translated(lambda error: _not_started(error, self._settings.base_folder)):
                    self._llm = await asyncio.get_running_loop().run_in_executor(self._owner, _build, self._settings)
                await self._probe()
            except EngineRefused as error:
                raise EngineLost(str(error)) from error
            undo.pop_all()
        # Not before: a start may take as long as it likes.
        self._watching = asyncio.create_task(self._watch(self._lost))

    async def _watch(self, lost: asyncio.Event) -> None:
        """Kill the engine if it hangs; tell what waits for its word when it is gone: vLLM tells generations alone."""
        if await self._pulse.stalled(lambda: self.alive):
            self._stalled(self._pulse.silent_seconds)
            ids = self.process_ids
            await asyncio.to_thread(lambda: wait_until_gone(processes_of(ids), 0.0))
            await self.death()
        lost.set()

    async def _question(self) -> None:
        """Answered between two steps, without a worker."""
        await self._asked(self._running().is_sleeping())

    async def _probe(self) -> None:
        job = Job(_PROBE, [0], Sampling(max_tokens=1), None, None, _PROBE)
        async for piece in self.generate(job):
            told = piece.attestation
            if not piece.finite:
                raise EngineLost("its weights are too large: they compute no numbers")
        if self._settings.plugins == PLUGIN and (told is None or (told.slot, told.violation) != (BASE_SLOT, "")):
            raise EngineLost("the worker does not attest its slots: the plugin trivium_lora is not installed")
        if told is not None and told.base_digest != self._facts.base_digest:
            raise EngineLost(f"the worker loaded {told.base_digest}, not {self._facts.base_digest}: its files changed")

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The engine core's process, whose children are the workers; empty while there is none."""
        manager = getattr(getattr(self._llm, "engine_core", None), "resources", None)
        processes = getattr(getattr(manager, "engine_manager", None), "processes", ())
        return tuple(process.pid for process in processes if process.pid)

    async def death(self) -> None:
        """Return once vLLM knows that its core is gone; it tells nobody, so it is asked."""
        while self.alive:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(_DEATH_POLL_SECONDS)

    async def stop(self) -> None:
        """End the engine's processes and the thread that owns them."""
        ids, llm, owner = self.process_ids, self._llm, self._owner
        self._llm = self._owner = None
        self._lost.set()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if llm is not None:
            if llm.output_handler is not None:
                # It would take the end of its engine for a fault.
                llm.output_handler.cancel()
            processes = await asyncio.to_thread(processes_of, ids)
            # However badly it goes about it: what is left of its processes is ended below.
            with suppress(EngineLost), translated(lambda error: EngineLost(str(error))):
                await asyncio.to_thread(llm.shutdown, _STOP_SECONDS)
            # The core dies first and its workers of its death: only then is their memory there for another engine.
            await asyncio.to_thread(wait_until_gone, processes, _GONE_SECONDS)
            # Nobody else asks how the core ended.
            multiprocessing.active_children()
            # vLLM shuts down once more when the object is collected, by then without its modules.
            setattr(llm, "shutdown", lambda *_, **__: None)  # noqa: B010 - a method of theirs
        if owner is not None:
            owner.shutdown(wait=False)

    async def generate(self, job: Job) -> AsyncGenerator[Piece]:
        """Run one job; see Engine."""
        from vllm.exceptions import VLLMError, VLLMServerError
        from vllm.inputs.engine import tokens_input

        llm = self._running()
        prompt = tokens_input(list(job.token_ids), cache_salt=job.cache_salt)
        try:
            params = sampling_params(job.sampling, job.constraint)
            lora, rank = lora_request(job.adapter), priority(job)
            outputs = llm.generate(prompt, params, job.request_id, lora_request=lora, priority=rank)
            with self._pulse.asked():
                async with aclosing(outputs):
                    async for output in outputs:
                        self._pulse.heard()
                        for completion in output.outputs:
                            yield piece_of(completion, job.sampling)
        except (VLLMError, ValueError) as error:
            classified = self._classified(error)
            if isinstance(error, VLLMServerError) and isinstance(classified, EngineRefused):
                # A fault of its own while it lives: not the request's, and for the log as it is.
                raise
            raise classified from error

    async def lift(self, adapter: EngineAdapter) -> int:
        """Read into host memory; see Engine."""
        return await self._asked(engine_memory.lift(self._running(), adapter))

    async def load(self, adapter: EngineAdapter) -> None:
        """Load beside the others; see Engine."""
        await self._asked(self._running().add_lora(lora_request(adapter)))

    async def lower(self, adapter: EngineAdapter) -> int:
        """From the slot into host memory; see Engine."""
        return await self._asked(engine_memory.lower(self._running(), adapter))

    async def unload(self, adapter: EngineAdapter) -> None:
        """Free the slot; see Engine."""
        await self._asked(self._running().remove_lora(adapter.engine_id))

    async def drop(self, adapter: EngineAdapter) -> None:
        """Free the host memory; see Engine."""
        await self._asked(engine_memory.drop(self._running(), adapter))

    async def resident(self) -> frozenset[int]:
        """Ids that vLLM itself lists."""
        return frozenset(await self._asked(self._running().list_loras()))

    async def lifted(self) -> Mapping[int, int]:
        """What the workers themselves list."""
        return await self._asked(engine_memory.kept(self._running()))

    async def _asked(self, call: Awaitable[T]) -> T:
        with translated(self._classified), self._pulse.asked():
            told = await _unless(self._lost, call)
            self._pulse.heard()
            return told

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineLost("the engine is not running")
        return self._llm

    def _classified(self, error: Exception) -> Exception:
        """EngineLost when the engine is gone, EngineRefused for what it said no to."""
        from vllm.v1.engine.exceptions import EngineDeadError

        if isinstance(error, EngineDeadError | EngineLost) or not self.alive:
            return EngineLost(str(error))
        if isinstance(error, EngineRefused):
            return error
        return EngineRefused(str(error.__cause__ or error))


async def _unless(lost: asyncio.Event, call: Awaitable[T]) -> T:
    """What a call returns.  Raises EngineLost as soon as that is set: vLLM lets it wait for ever."""
    asked, gone = asyncio.ensure_future(call), asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise EngineLost("the engine ended before it answered")
        return asked.result()
    finally:
        asked.cancel()
        gone.cancel()


def _not_started(error: Exception, folder: Path) -> EngineLost:
    """What vLLM raised, for the model's owner: on one line, without where it lies here.

    Where vLLM refers to its own log, that is the generator's.
    """
    told = " ".join(str(error).replace(str(folder), "the model").split())[:_MAX_CAUSE] or type(error).__name__
    if "stack trace" in told.lower() or "root cause" in told.lower():
        told = "its process failed while it started or answered its first token; the generator's log holds the cause"
    return EngineLost(told)


def _build(settings: VllmSettings) -> AsyncLLM:
    _prepare_vllm()
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(arguments(settings))


@cache
def _prepare_vllm() -> None:
    """Import it with our plug-ins.  Its modules hold 700,000 objects: those are set apart, once, and no engine is."""
    from vllm.v1.engine import async_llm  # noqa: F401 - for its modules

    from services.generator.plugin import compiling, frontend

    frontend.install()
    compiling.install_in_frontend()
    set_apart()
