"""vLLM's AsyncLLM as an Engine: processes, sampling parameters, attestation.

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
from collections.abc import AsyncGenerator, Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from services.chassis.foreign import translated
from services.generator import engine_memory
from services.generator.engine import (
    BASE_SLOT,
    Attestation,
    Constraint,
    ConstraintKind,
    EngineAdapter,
    EngineFacts,
    EngineLost,
    EngineRefused,
    Finish,
    Job,
    Logprob,
    Piece,
    Sampling,
)
from services.generator.footprint import processes_of, wait_until_gone
from services.generator.lifeline import GENERATOR_PID, Lifeline
from services.generator.plugin import VLLM_VERSION, require_pinned_vllm
from services.generator.targets import chosen, module_shapes, names

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

T = TypeVar("T")

PLUGIN = "trivium_lora"
_PROBE = "probe"
_DEATH_POLL_SECONDS = 0.2
# An engine core has nothing to save; what it runs is lost in any case.
_STOP_SECONDS = 1.0
_GONE_SECONDS = 10.0
_MAX_CAUSE = 500


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """How to run the engine; with ``slots`` 0 it serves the base alone.

    ``gpu_memory_utilization`` over 0 takes the place of ``kv_cache_bytes``, empty ``quantization`` what the model says.

    ``plugins`` and ``prefix_caching`` are only ever changed to compare with what vLLM does without them.
    """

    base_folder: Path
    base: str
    base_digest: str
    slots: int = 4
    max_rank: int = 16
    # Names of modules; empty takes every linear one of the base.
    targets: tuple[str, ...] = ()
    context_tokens: int = 2048
    max_sequences: int = 32
    kv_cache_bytes: int = 1 << 30
    dtype: str = "bfloat16"
    cpu_ids: str = ""
    quantization: str = ""
    kv_cache_dtype: str = "auto"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: float = 0.0
    enforce_eager: bool = True
    plugins: str = PLUGIN
    prefix_caching: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


def environment(settings: VllmSettings) -> dict[str, str]:
    """Variables that vLLM reads at import and in its children."""
    values = {
        **settings.variables,
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_PLUGINS": settings.plugins,
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # The engine runs eagerly.  What vLLM's sampler would still compile, at the first request for log
        # probabilities, stops every request of the engine for seconds.
        "TORCH_COMPILE_DISABLE": "1",
        GENERATOR_PID: str(os.getpid()),
    }
    if settings.cpu_ids:
        values["VLLM_CPU_OMP_THREADS_BIND"] = settings.cpu_ids
    return values


class VllmEngine:
    """One AsyncLLM and the thread that owns its processes."""

    def __init__(self, settings: VllmSettings, name: str = "engine-0") -> None:
        self._settings = settings
        self._llm: AsyncLLM | None = None
        self._owner: ThreadPoolExecutor | None = None
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

    async def _probe(self) -> None:
        job = Job(_PROBE, [0], Sampling(max_tokens=1), None, None, _PROBE)
        async for piece in self.generate(job):
            told = piece.attestation
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
        from vllm.exceptions import VLLMError
        from vllm.inputs.engine import tokens_input

        llm = self._running()
        prompt = tokens_input(list(job.token_ids), cache_salt=job.cache_salt)
        try:
            params = _sampling_params(job.sampling, job.constraint)
            outputs = llm.generate(prompt, params, job.request_id, lora_request=_lora_request(job.adapter))
            async with aclosing(outputs):
                async for output in outputs:
                    for completion in output.outputs:
                        yield _piece(completion, job.sampling)
        except (VLLMError, ValueError) as error:
            raise self._classified(error) from error

    async def lift(self, adapter: EngineAdapter) -> int:
        """Read into host memory; see Engine."""
        return await self._asked(engine_memory.lift(self._running(), adapter))

    async def load(self, adapter: EngineAdapter) -> None:
        """Load beside the others; see Engine."""
        await self._asked(self._running().add_lora(_lora_request(adapter)))

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
        with translated(self._classified):
            return await call

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineLost("the engine is not running")
        return self._llm

    def _classified(self, error: Exception) -> Exception:
        """EngineLost when the engine is gone, EngineRefused for what it said no to."""
        from vllm.v1.engine.exceptions import EngineDeadError

        if isinstance(error, EngineDeadError) or not self.alive:
            return EngineLost(str(error))
        if isinstance(error, EngineRefused):
            return error
        return EngineRefused(str(error.__cause__ or error))


def _not_started(error: Exception, folder: Path) -> EngineLost:
    """What vLLM raised, for the model's owner: on one line, without where it lies here.

    Where vLLM refers to its own log, that is the generator's.
    """
    told = " ".join(str(error).replace(str(folder), "the model").split())[:_MAX_CAUSE] or type(error).__name__
    if "stack trace" in told.lower() or "root cause" in told.lower():
        told = "its process failed while it started or answered its first token; the generator's log holds the cause"
    return EngineLost(told)


def _build(settings: VllmSettings) -> AsyncLLM:
    from vllm.config import StructuredOutputsConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from services.generator.plugin import frontend

    frontend.install()
    arguments = AsyncEngineArgs(
        model=str(settings.base_folder),
        tokenizer=str(settings.base_folder),
        dtype=settings.dtype,
        max_model_len=settings.context_tokens,
        max_num_seqs=settings.max_sequences,
        kv_cache_dtype=settings.kv_cache_dtype,
        quantization=settings.quantization or None,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        enforce_eager=settings.enforce_eager,
        enable_prefix_caching=settings.prefix_caching,
        # A small model that may choose white space writes nothing else until its tokens are used up.
        structured_outputs_config=StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True),
        additional_config=Lifeline(),
        disable_log_stats=True,
        generation_config="vllm",
        **_memory(settings),
        **(_adapters(settings) if settings.slots else {}),
    )
    return AsyncLLM.from_engine_args(arguments)


def _adapters(settings: VllmSettings) -> dict[str, Any]:
    return {
        "enable_lora": True,
        "max_loras": settings.slots,
        "max_cpu_loras": settings.slots,
        "max_lora_rank": settings.max_rank,
        "lora_target_modules": names(chosen(module_shapes(settings.base_folder), settings.targets)),
    }


def _memory(settings: VllmSettings) -> dict[str, Any]:
    """How large the KV cache is: in bytes, or what is left of a part of the device's memory."""
    if settings.gpu_memory_utilization:
        return {"gpu_memory_utilization": settings.gpu_memory_utilization}
    return {"kv_cache_memory_bytes": settings.kv_cache_bytes}


def _lora_request(adapter: EngineAdapter | None) -> Any:
    if adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=adapter.name, lora_int_id=adapter.engine_id, lora_path=str(adapter.folder.absolute()))


def _sampling_params(sampling: Sampling, constraint: Constraint | None) -> Any:
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed if sampling.temperature > 0 else None,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        min_tokens=sampling.min_tokens,
        min_p=sampling.min_p,
        logit_bias=dict(sampling.logit_bias) or None,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logprobs=sampling.logprobs,
        structured_outputs=_structured(constraint),
        n=sampling.n,
        bad_words=list(sampling.bad_words),
        allowed_token_ids=list(sampling.allowed_token_ids) or None,
        include_stop_str_in_output=sampling.include_stop_str_in_output,
        skip_special_tokens=sampling.skip_special_tokens,
        output_kind=RequestOutputKind.DELTA,
    )


def _structured(constraint: Constraint | None) -> Any:
    if constraint is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    if constraint.kind is ConstraintKind.CHOICE:
        return StructuredOutputsParams(choice=list(constraint.choices))
    if constraint.kind is ConstraintKind.JSON_OBJECT:
        return StructuredOutputsParams(json_object=True)
    return StructuredOutputsParams(**{constraint.kind.value: constraint.text})


def _piece(completion: Any, sampling: Sampling) -> Piece:
    from services.generator.plugin.frontend import told

    record, cached_tokens, finite = told(completion)
    finish = completion.finish_reason
    return Piece(
        text=completion.text,
        token_ids=tuple(completion.token_ids),
        logprobs=_logprobs(completion, sampling.logprobs),
        finish=Finish(finish) if finish in ("stop", "length") else Finish.ABORT if finish else None,
        cached_tokens=cached_tokens,
        attestation=Attestation(*record) if record else None,
        choice=completion.index,
        finite=finite,
    )


def _logprobs(completion: Any, wanted: int | None) -> tuple[Logprob, ...]:
    if wanted is None or not completion.logprobs:
        return ()
    told = []
    for token_id, alternatives in zip(completion.token_ids, completion.logprobs, strict=False):
        best = sorted(alternatives.items(), key=lambda item: item[1].rank or 0)[:wanted]
        top = tuple(Logprob(other, found.decoded_token or "", found.logprob) for other, found in best)
        chosen = alternatives[token_id]
        told.append(Logprob(token_id, chosen.decoded_token or "", chosen.logprob, top))
    return tuple(told)
