"""How the engine of each base would run: settings of the deployment, bounds of the model, nothing started."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.core.sched.request_queue import SchedulingPolicy, create_request_queue
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.request import Request

from services.chassis.errors import Failure, Reason
from services.generator import lifeline
from services.generator.config import GeneratorSettings
from services.generator.engine import Attestation, EngineLost, EngineRefused, Finish, Job, Piece, Sampling
from services.generator.engine_vllm import VllmEngine, _not_started
from services.generator.holdings import Shared
from services.generator.hosting import Hosting, vllm_settings
from services.generator.hosts import Base
from services.generator.vllm_settings import arguments, memory
from tests.tiny_model import TinyModel


@pytest.fixture
def base(tmp_path):
    """A model with a context of 512 tokens."""
    model = TinyModel()
    return Base("tiny", model.digest(), model.write(tmp_path / "tiny"))


def deployed(base):
    return Base(base.name, base.digest, base.folder, always_on=True, public=True)


def test_an_engine_on_demand_has_a_cache_and_slots_of_its_own_and_the_models_own_context(base):
    settings = GeneratorSettings(kv_cache_gib=2.0, engine_kv_cache_gib=0.25, max_model_len=2048)
    own, default = vllm_settings(settings, base, 2), vllm_settings(settings, deployed(base), 4)
    assert (own.kv_cache_bytes, default.kv_cache_bytes) == (1 << 28, 2 << 30)
    assert own.context_tokens == 512
    assert (own.base_digest, own.slots) == (base.digest, 2)
    assert own.cpu_ids == default.cpu_ids, "all engines share the engines' processors"


def test_what_concerns_gpus_is_passed_through(base, monkeypatch):
    values = {
        "QUANTIZATION": "fp8",
        "KV_CACHE_DTYPE": "fp8_e4m3",
        "TENSOR_PARALLEL_SIZE": "2",
        "PIPELINE_PARALLEL_SIZE": "3",
        "GPU_MEMORY_UTILIZATION": "0.8",
        "ENFORCE_EAGER": "false",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"TRIVIUM_GENERATOR_{name}", value)
    told = vllm_settings(GeneratorSettings(), base, 0)
    assert (told.quantization, told.kv_cache_dtype) == ("fp8", "fp8_e4m3")
    assert (told.tensor_parallel_size, told.pipeline_parallel_size, told.enforce_eager) == (2, 3, False)
    assert memory(told) == {"gpu_memory_utilization": 0.8}
    assert memory(vllm_settings(GeneratorSettings(gpu_memory_utilization=0.0), base, 0)).keys() == {
        "kv_cache_memory_bytes"
    }


@pytest.mark.parametrize(("targets", "slots"), [("", 2), ("q_proj", 2), ("nothing_like_it", 0)])
def test_a_base_whose_modules_are_not_those_of_the_deployment_is_served_without_slots(base, targets, slots):
    hosting = Hosting(None, GeneratorSettings(lora_targets=targets, engine_slots=2), lambda host: None, Shared())  # type: ignore[arg-type]  # nothing runs
    rules, found = hosting._rules(base)
    assert found == slots
    assert bool(rules.widths) == bool(slots)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("1 validation error\n  /cache/full/ab has\n  no weights", "1 validation error the model has no weights"),
        ("Engine core failed. See root cause above.", "generator's log holds the cause"),
        ("", "ValueError"),
    ],
)
def test_why_an_engine_did_not_start_is_told_on_a_line_and_not_where_its_model_lies(raised, told):
    failure = str(_not_started(ValueError(raised), Path("/cache/full/ab")))
    assert told in failure
    assert "/cache" not in failure
    assert "\n" not in failure


def test_where_the_deployment_gives_engines_on_demand_no_slots_their_adapters_are_refused_and_not_kept_waiting(base):
    hosting = Hosting(None, GeneratorSettings(engine_slots=0), lambda host: None, Shared())  # type: ignore[arg-type]  # nothing runs
    rules, slots = hosting._rules(base)
    assert (slots, dict(rules.widths)) == (0, {})


def test_an_engine_that_is_killed_because_it_hung_is_logged_and_counted():
    events, counted = [], []
    runtime = SimpleNamespace(log=SimpleNamespace(error=lambda event, **fields: events.append((event, fields))))
    shared = Shared(stalled=lambda: counted.append(1))
    Hosting(runtime, GeneratorSettings(), lambda host: None, shared)._hung("engine-0", 120.04)  # type: ignore[arg-type]  # only its log
    assert (events, counted) == ([("engine_stalled", {"engine": "engine-0", "silent_seconds": 120.0})], [1])


@pytest.mark.parametrize("seconds", [0.0, 7.5])
def test_how_long_an_engine_may_hang_is_the_deployments_to_say(base, seconds):
    assert vllm_settings(GeneratorSettings(engine_stall_seconds=seconds), base, 0).stall_seconds == seconds


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"max_position_embeddings": "many"}', '{"max_position_embeddings": [512]}']
)
def test_a_models_configuration_that_says_nothing_of_its_context_is_refused(base, text):
    (base.folder / "config.json").write_text(text)
    with pytest.raises(Failure) as caught:
        vllm_settings(GeneratorSettings(), base, 0)
    assert caught.value.reason is Reason.WEIGHTS_REFUSED


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (EngineGenerateError("out of luck"), EngineGenerateError),
        (VLLMValidationError("no such thing"), EngineRefused),
        (ValueError("no such thing"), EngineRefused),
        (EngineDeadError(), EngineLost),
    ],
)
async def test_an_engines_own_fault_is_not_taken_for_the_requests(base, raised, told):
    class Llm:
        errored = False

        async def generate(self, *arguments, **fields):
            raise raised
            yield

    engine = VllmEngine(vllm_settings(GeneratorSettings(), base, 0))
    engine._llm = Llm()
    with pytest.raises(told):
        await anext(engine.generate(Job("r", [1], Sampling(1), None, None, "t")))


async def test_of_the_prompts_that_wait_in_the_engine_those_that_nobody_waits_for_come_last(base):
    numbers = []

    class Llm:
        errored = False

        async def generate(self, *arguments, priority, **fields):
            numbers.append(priority)
            return
            yield

    engine = VllmEngine(vllm_settings(GeneratorSettings(), base, 0))
    engine._llm = Llm()
    for background in (True, False):
        job = Job("r", [1], Sampling(1), None, None, "t", background)
        assert [piece async for piece in engine.generate(job)] == []
    waiting = create_request_queue(
        SchedulingPolicy(arguments(vllm_settings(GeneratorSettings(), base, 0)).scheduling_policy)
    )
    for name, number in zip(("background", "live"), numbers, strict=True):
        waiting.add_request(Request(name, [1], SamplingParams(max_tokens=1), None, priority=number))
    assert [waiting.pop_request().request_id for _ in numbers] == ["live", "background"]


async def test_an_engine_whose_base_computes_no_numbers_does_not_come_up(base, monkeypatch):
    told = Attestation(-1, "", 1, "", base.digest)

    async def answers(self, job):
        yield Piece("", (0,), (), Finish.LENGTH, 0, told, finite=finite)

    monkeypatch.setattr(VllmEngine, "generate", answers)
    engine = VllmEngine(vllm_settings(GeneratorSettings(), base, 0))
    finite = True
    await engine._probe()
    finite = False
    with pytest.raises(EngineLost, match="numbers"):
        await engine._probe()


def test_a_graph_that_was_compiled_around_other_lines_of_the_plugin_is_not_found_again(tmp_path, monkeypatch):
    """A part of the keys of vLLM's cache: a graph calls layers by number, and other lines may number them otherwise."""
    (tmp_path / "layers.py").write_text("first")
    monkeypatch.setattr(lifeline, "_PLUGIN", tmp_path)
    before = lifeline.Lifeline().compute_hash()
    assert lifeline.Lifeline().compute_hash() == before
    (tmp_path / "layers.py").write_text("second")
    assert lifeline.Lifeline().compute_hash() != before
