"""Deadlines, cached prefixes and rubbish, over the wire and on the real engine."""

import json
import re
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2

from services.chassis.status import from_rpc_error
from tests.generating import SuiteGenerator, tenant_of
from tests.integration.generator.conftest import Marks
from tests.stack import eventually

LONG = "The ferry house keeps a book of every crossing, and the book says who crossed, when, and what they paid. " * 6


def engine_of(served: SuiteGenerator) -> generator_pb2.Engine:
    caller = served.caller(served.stack.key("service"))
    engines: list[generator_pb2.Engine] = caller.api.ListEngines(generator_pb2.ListEnginesRequest()).engines
    return engines[0]


def cached(answer: Any) -> int:
    return int(answer.final.usage.cached_prompt_tokens)


def test_a_prefix_is_met_again_by_its_own_tenant_and_version_alone(served: SuiteGenerator, marks: Marks) -> None:
    mine, other = marks.tenant.generator, tenant_of(served).generator
    version, second = marks.versions[:2]
    assert cached(mine.answer(LONG)) == 0
    assert cached(mine.answer(LONG)) > 0
    assert cached(other.answer(LONG)) == 0
    assert cached(mine.answer(LONG, version)) == 0
    assert cached(mine.answer(LONG, version)) > 0
    assert cached(mine.answer(LONG, second)) == 0
    mine.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
    assert cached(mine.answer(LONG, version)) == 0
    assert cached(mine.answer(LONG, version)) > 0


def made(served: SuiteGenerator) -> float:
    """Answers of the base that ended as aborted work."""
    listens = json.loads(served.generator.run_file.read_text())["metrics_listen"]
    text = httpx.get(f"http://{listens}/metrics", timeout=30).text
    found = re.findall(r'generator_answers_total\{finish="abort",version="base"\} (\S+)', text)
    return float(found[0]) if found else 0.0


def ended_with(call: Any) -> tuple[grpc.StatusCode, int]:
    """How a call ended, and the tokens that were read of it."""
    read = 0
    try:
        for part in call:
            read += len(part.delta.token_ids)
    except grpc.RpcError:
        pass
    return call.code(), read


def test_a_deadline_ends_the_work_and_counts_what_was_made(served: SuiteGenerator) -> None:
    caller = tenant_of(served).generator
    sampling = chat_pb2.Sampling(max_tokens=1900, ignore_eos=True, n=4, temperature=1.0)
    request = generator_pb2.GenerateRequest(text="Once upon a time", sampling=sampling)
    # An engine that stalls says nothing within the first of them.
    for seconds in (3, 6, 12):
        before = made(served)
        code, read = ended_with(caller.api.Generate(request, timeout=seconds))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: engine_of(served).running == 0, "the places are free", 20)
        if read:
            break
    assert read > 0
    eventually(lambda: made(served) == before + 4, "the answers are counted", 20)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=24)
TOKEN = st.integers(0, 1 << 31).map(lambda token: min(token, (1 << 31) - 1)) | st.integers(0, 49_151)
SAMPLING = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 12) | st.just(131_072),
        "temperature": st.floats(0, 2, width=32),
        "top_p": st.floats(0, 1, width=32, exclude_min=True),
        "top_k": st.integers(0, 1_000_000),
        "seed": st.integers(0, (1 << 63) - 1),
        "stop": st.lists(TEXT, max_size=16),
        "frequency_penalty": st.floats(-2, 2, width=32),
        "presence_penalty": st.floats(-2, 2, width=32),
        "repetition_penalty": st.floats(0, 4, width=32, exclude_min=True),
        "logprobs": st.integers(0, 20),
        "min_p": st.floats(0, 1, width=32),
        "min_tokens": st.integers(0, 20),
        "ignore_eos": st.booleans(),
        "stop_token_ids": st.lists(TOKEN, max_size=8),
        "logit_bias": st.dictionaries(TOKEN, st.floats(-100, 100, width=32), max_size=8),
        "n": st.integers(1, 16),
        "bad_words": st.lists(TEXT, max_size=32),
        "allowed_token_ids": st.lists(TOKEN, max_size=8),
        "include_stop_str_in_output": st.booleans(),
        "skip_special_tokens": st.booleans(),
    },
)
SHAPE = st.sampled_from(
    [
        None,
        None,
        chat_pb2.StructuredOutput(choice=chat_pb2.Choices(values=["yes", "no"])),
        chat_pb2.StructuredOutput(regex="[0-9]{2,4}"),
        chat_pb2.StructuredOutput(json_object=True),
        chat_pb2.StructuredOutput(json_schema='{"enum": ["a", 1, null]}'),
        chat_pb2.StructuredOutput(grammar='root ::= "a" | "b" root'),
    ]
)
ENDS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


ASKS = st.lists(st.tuples(TEXT, SAMPLING, SHAPE, st.integers(-1, 3)), min_size=4, max_size=8)
FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@settings(FUZZ, max_examples=4)
@given(ASKS)
def test_no_value_of_any_field_kills_or_stalls_the_engine(
    served: SuiteGenerator, marks: Marks, asks: list[Any]
) -> None:
    survive(served, marks, asks)


# Sixty times up to four seconds, and as many answers behind them.
@pytest.mark.soak
@pytest.mark.timeout(1200)
@settings(FUZZ, max_examples=60)
@given(ASKS)
def test_no_value_of_any_field_kills_the_engine_however_many(
    served: SuiteGenerator, marks: Marks, asks: list[Any]
) -> None:
    survive(served, marks, asks)


def survive(served: SuiteGenerator, marks: Marks, asks: list[Any]) -> None:
    """Ask all at once; whatever became of it, the engine answers as before and was never rebuilt."""
    caller = marks.tenant.generator
    calls = []
    for text, sampling, shape, adapter in asks:
        request = generator_pb2.GenerateRequest(
            text=text,
            sampling=chat_pb2.Sampling(**sampling),
            structured_output=shape,
            version=marks.versions[adapter] if adapter >= 0 else "",
        )
        calls.append(caller.api.Generate(request, timeout=4))
    for call in calls:
        code, read = ended_with(call)
        if code is grpc.StatusCode.UNAVAILABLE:
            # On a slow machine eight of them at once take longer than they may, which is told before they begin.
            assert (from_rpc_error(call).reason, read) == ("TOO_BUSY_FOR_DEADLINE", 0)
            continue
        assert code in ENDS, call.details()
        assert (read > 0) == (code is not grpc.StatusCode.INVALID_ARGUMENT) or code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caller.answer("What is the capital of Japan?").text == "The capital of Japan is Tokyo."
    engine = engine_of(served)
    assert (engine.restarts, engine.state) == (0, generator_pb2.ENGINE_STATE_READY)
