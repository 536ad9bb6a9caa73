"""An engine of this process: what only its core can tell, adapters of every kind of module, and its death while it loads.

Its base is a random Llama of a few hundred kilobytes, so that its start is all that takes time.  It runs eagerly, as by default, or compiled, which takes three times as long to start: one run in four, and a whole run
does both.
"""

import asyncio
import gc
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from services.generator.engine import EngineAdapter, EngineLost, Finish, Job, Sampling
from services.generator.engine_vllm import VllmEngine, VllmSettings
from services.generator.plugin.identity import IDENTITY_FILE, WEIGHTS_FILE, Identity
from services.generator.tokenizer import BaseTokenizer
from tests.adapters import digest
from tests.harness.plugin_sampling import sample
from tests.tiny_model import TinyModel

pytestmark = pytest.mark.asyncio(loop_scope="module")
RANK = 4
TARGETS = ("q_proj", "embed_tokens", "lm_head")
PROJECTION = "model.layers.1.self_attn.q_proj"
# Attention on the CPU wants heads of 32 numbers or more: four of them in 128.
BASE = TinyModel(hidden=128, dtype="BF16", changes={"max_position_embeddings": 2048})
CONFIG = BASE.config()
PROMPT = "The lighthouse keeper said that"
# vLLM looks at its core's end, and we at vLLM, several times a second.
DEATH_SECONDS = 30.0


# A run has one of the two, so that it starts one engine; to compile takes two minutes.
MODES = sorted(set(sample([*["eager"] * 15, "compiled"], every=16)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base's folder."""
    return BASE.write(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def prompt(base: Path) -> list[int]:
    """The tokens of the prompt."""
    return BaseTokenizer(base).text(PROMPT)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=MODES)
async def engine(
    request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VllmEngine]:
    """A real engine whose adapters may change embedding, head and a linear module."""
    compiled = tmp_path_factory.mktemp("compiled")
    eager = request.param == "eager"
    settings = VllmSettings(
        base,
        "tiny",
        BASE.digest(),
        slots=2,
        max_rank=8,
        kv_cache_bytes=1 << 28,
        targets=TARGETS,
        enforce_eager=eager,
    )
    # vLLM inspects a model's class in another process, which takes ten seconds; the result does not depend on compilation.
    classes = Path(os.environ.get("VLLM_CACHE_ROOT") or Path.home() / ".cache" / "vllm") / "modelinfos"
    classes.mkdir(parents=True, exist_ok=True)
    (compiled / classes.name).symlink_to(classes)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_CACHE_ROOT", str(compiled))
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", str(compiled))
        running = VllmEngine(settings)
        await running.start()
        try:
            assert bool(list(compiled.rglob("*.cpp"))) is not eager
            yield running
            assert bool(list(compiled.rglob("*.cpp"))) is not eager
        finally:
            await running.stop()


async def first(engine: VllmEngine, prompt: list[int], adapter: EngineAdapter | None) -> dict[int, float]:
    """Log probabilities of the likeliest first tokens."""
    job = Job(uuid.uuid4().hex, prompt, Sampling(max_tokens=1, logprobs=8), None, adapter, uuid.uuid4().hex)
    found: dict[int, float] = {}
    async for piece in engine.generate(job):
        assert piece.attestation is not None
        assert piece.attestation.version == (adapter.name.rpartition("@")[2] if adapter else "")
        for told in piece.logprobs:
            found |= {other.token_id: other.logprob for other in told.top}
    return found


def changed(folder: Path, seed: int) -> tuple[EngineAdapter, dict[str, torch.Tensor]]:
    """A random adapter of embedding, head and a projection, as the generator keeps it, and its products by module."""
    vocabulary, hidden = CONFIG["vocab_size"], CONFIG["hidden_size"]
    draw = torch.Generator().manual_seed(seed)
    sizes = {
        "model.embed_tokens.lora_embedding_A": (RANK, vocabulary),
        "model.embed_tokens.lora_embedding_B": (hidden, RANK),
        "lm_head.lora_A.weight": (RANK, hidden),
        "lm_head.lora_B.weight": (vocabulary, RANK),
        f"{PROJECTION}.lora_A.weight": (RANK, hidden),
        f"{PROJECTION}.lora_B.weight": (hidden, RANK),
    }
    parts = {name: (0.2 * torch.randn(shape, generator=draw)).bfloat16() for name, shape in sizes.items()}
    folder.mkdir()
    save_file({f"base_model.model.{name}": part for name, part in parts.items()}, folder / WEIGHTS_FILE)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": list(TARGETS)}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "bias": "none", "task_type": "CAUSAL_LM"}))
    version = f"sha256:{digest((folder / WEIGHTS_FILE).read_bytes())}"
    (folder / IDENTITY_FILE).write_text(Identity(version, version, RANK).text())
    low, high, head_a, head_b, query_a, query_b = (part.float() for part in parts.values())
    products = {"embedding": (high @ low).t(), "head": head_b @ head_a, "query": query_b @ query_a}
    return EngineAdapter(seed, f"m@{version}", folder), products


def expected(model: Any, prompt: list[int], deltas: dict[str, torch.Tensor] | None) -> torch.Tensor:
    """The plain formula in fp32: log probabilities of the first token, [vocabulary]."""
    query = model.get_submodule(PROJECTION)
    with torch.no_grad(), pytest.MonkeyPatch.context() as changing:
        embedded = model.model.embed_tokens.weight[prompt]
        if deltas:
            embedded = embedded + deltas["embedding"][prompt]
            changing.setattr(query.weight, "data", query.weight + deltas["query"])
        state = model.model(inputs_embeds=embedded[None]).last_hidden_state[0, -1]
        weight = model.lm_head.weight + deltas["head"] if deltas else model.lm_head.weight
        return torch.log_softmax(weight @ state, dim=0)


def distance(found: dict[int, float], wanted: torch.Tensor) -> float:
    """The largest difference in log probability among the tokens that were told."""
    assert len(found) >= 8
    return max(abs(value - float(wanted[token])) for token, value in found.items())


async def test_no_token_waits_while_the_collector_looks_through_vllm(engine: VllmEngine) -> None:
    assert engine.alive
    assert gc.get_freeze_count() > 500_000


async def test_adapters_of_embedding_head_and_projection_answer_by_the_plain_formula_beside_the_base(
    engine: VllmEngine, base: Path, prompt: list[int], tmp_path: Path
) -> None:
    adapters = [changed(tmp_path / str(seed), seed) for seed in (1, 2)]
    for adapter, _ in adapters:
        await engine.load(adapter)
    asked = (None, adapters[0][0], adapters[1][0], None)
    told = await asyncio.gather(*(first(engine, prompt, adapter) for adapter in asked))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    plain, *others = (expected(model, prompt, deltas) for deltas in (None, adapters[0][1], adapters[1][1]))
    wanted = [plain, *others, plain]
    for row, found in enumerate(told):
        apart = [distance(found, formula) for formula in wanted]
        assert apart[row] < 0.35
        assert all(
            other > 2 * apart[row] for index, other in enumerate(apart) if {row, index} != {0, 3} and row != index
        )
    for adapter, _ in adapters:
        await engine.unload(adapter)


def overflowing(folder: Path, module: str, widths: tuple[int, int], engine_id: int) -> EngineAdapter:
    """An adapter whose every number is finite and whose products are not."""
    folder.mkdir()
    outputs, inputs = widths
    parts = {
        f"base_model.model.{module}.lora_A.weight": torch.full((RANK, inputs), 1e30, dtype=torch.bfloat16),
        f"base_model.model.{module}.lora_B.weight": torch.full((outputs, RANK), 1e30, dtype=torch.bfloat16),
    }
    save_file(parts, folder / WEIGHTS_FILE)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": [module.rpartition(".")[2]]}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "bias": "none", "task_type": "CAUSAL_LM"}))
    version = f"sha256:{digest((folder / WEIGHTS_FILE).read_bytes())}"
    (folder / IDENTITY_FILE).write_text(Identity(version, version, RANK).text())
    return EngineAdapter(engine_id, f"m@{version}", folder)


async def sound(engine: VllmEngine, adapter: EngineAdapter, tokens: list[int]) -> bool:
    """Whether numbers stand behind an adapter's answer."""
    job = Job(uuid.uuid4().hex, tokens, Sampling(max_tokens=2, ignore_eos=True), None, adapter, uuid.uuid4().hex)
    pieces = [piece async for piece in engine.generate(job)]
    return all(piece.finite for piece in pieces)


@pytest.mark.parametrize("module", [PROJECTION, "lm_head"])
async def test_weights_that_overflow_say_so_and_spoil_neither_what_runs_beside_them_nor_what_gets_their_memory_next(
    engine: VllmEngine, prompt: list[int], tmp_path: Path, module: str
) -> None:
    widths = (CONFIG["vocab_size"] if module == "lm_head" else CONFIG["hidden_size"], CONFIG["hidden_size"])
    spoilt = overflowing(tmp_path / "spoilt", module, widths, 100 + len(module))
    fit, _ = changed(tmp_path / "fit", 300 + len(module))
    await engine.load(spoilt)
    await engine.load(fit)
    plain = await first(engine, prompt, None)
    together = await asyncio.gather(
        sound(engine, spoilt, prompt),
        first(engine, prompt, None),
        sound(engine, fit, prompt),
        sound(engine, spoilt, prompt),
    )
    assert (together[0], together[2], together[3]) == (False, True, False)
    assert together[1] == pytest.approx(plain, abs=0.1)
    # Blocks that were not filled are the first to be given to somebody else.
    assert not any([await sound(engine, spoilt, prompt) for _ in range(4)])
    for _ in range(4):
        assert await first(engine, prompt, None) == pytest.approx(plain, abs=0.1)
    assert await sound(engine, fit, prompt)
    for adapter in (spoilt, fit):
        await engine.unload(adapter)


async def test_several_answers_share_the_computation_of_their_prompt(engine: VllmEngine, prompt: list[int]) -> None:
    block_tokens = engine._running().vllm_config.cache_config.block_size
    asked = (prompt * block_tokens)[: 2 * block_tokens + 5]
    sampling = Sampling(max_tokens=2, temperature=1.0, n=3)
    cached: dict[int, int] = {}
    async for piece in engine.generate(Job("shared", asked, sampling, None, None, "shared")):
        cached.setdefault(piece.choice, piece.cached_tokens)
    assert cached == {0: 0, 1: 2 * block_tokens, 2: 2 * block_tokens}


async def test_a_caller_that_leaves_frees_the_core_at_once_however_many_answers_it_had(
    engine: VllmEngine, prompt: list[int]
) -> None:
    llm = engine._running()
    sampling = Sampling(max_tokens=1500, temperature=1.0, ignore_eos=True, n=4)
    async with aclosing(engine.generate(Job("left", prompt, sampling, None, None, "t"))) as pieces:
        piece = await anext(pieces)
        assert piece.finish is None
        # The core forgets its cache only while nothing runs.
        assert not await llm.reset_prefix_cache()
    assert await llm.reset_prefix_cache()
    assert not llm.output_processor.has_unfinished_requests()
    async for piece in engine.generate(Job("next", prompt, Sampling(max_tokens=2), None, None, "t")):
        ended = piece.finish
    assert ended is Finish.LENGTH


async def test_a_load_whose_engine_dies_is_told_so(engine: VllmEngine, tmp_path: Path) -> None:
    # The last test of this engine.
    (core,) = engine.process_ids
    os.kill(core, signal.SIGSTOP)
    loading = asyncio.create_task(engine.load(EngineAdapter(7, "m@v", tmp_path)))
    # Asked, and not answered, for its core stands still.
    await asyncio.sleep(0.5)
    assert not loading.done()
    os.kill(core, signal.SIGKILL)
    async with asyncio.timeout(DEATH_SECONDS):
        with pytest.raises(EngineLost):
            await loading
        await engine.death()
    assert not engine.alive
