"""The unmodified official client, pointed at the gateway, just works (the acceptance test of HTTP)."""

import json
import uuid
from collections import defaultdict
from typing import Any

import grpc
import openai
import pytest
from pydantic import BaseModel
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc

from services.ops.supervisor import Suite
from tests.impatience import Impatient
from tests.integration.gateway.stock import Served, metadata
from tests.stack import eventually

CAPITAL: Any = [{"role": "user", "content": "What is the capital of Japan?"}]


@pytest.fixture(scope="module")
def client(suite: Suite):
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=240, max_retries=0) as opened:
        yield opened


def test_models_are_listed_the_base_first(client: openai.OpenAI, adapter: Served) -> None:
    models = list(client.models.list())
    assert models[0].id == "base"
    assert adapter.model in [model.id for model in models]
    assert {model.owned_by for model in models} == {"trivium"}


@pytest.mark.parametrize("suffix", ["", "@prod", "@1"])
def test_any_name_that_model_accepts_is_described(client: openai.OpenAI, adapter: Served, suffix: str) -> None:
    model = client.models.retrieve(adapter.model + suffix)
    assert model.id == adapter.model + suffix
    assert model.model_extra is not None
    assert model.model_extra["trivium"]["version"] == adapter.version


def test_a_chat_streams_from_the_base(client: openai.OpenAI) -> None:
    def streamed() -> list[Any]:
        chunks = list(
            client.chat.completions.create(
                model="base", messages=CAPITAL, stream=True, stream_options={"include_usage": True}, temperature=0
            )
        )
        # On a machine that stalls all of a short answer may come together.
        return chunks if len(chunks) > 4 else []

    chunks = eventually(streamed, "an answer comes in pieces")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Tokyo" in text
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-2].system_fingerprint


def test_a_chat_streams_from_an_adapter_and_names_the_exact_version(client: openai.OpenAI, adapter: Served) -> None:
    stream = client.chat.completions.create(model=adapter.model, messages=CAPITAL, stream=True, max_tokens=16)
    chunks = list(stream)
    last = chunks[-1]
    assert last.model == adapter.model
    assert last.model_extra is not None
    about = last.model_extra["trivium"]
    assert about["version"] == adapter.version
    assert about["receipt"]["resolved_model"] == f"{adapter.model}@{adapter.version}"
    plain = client.chat.completions.create(model="base", messages=CAPITAL, max_tokens=16)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) != plain.choices[0].message.content


async def test_the_asynchronous_client_streams_too(suite: Suite) -> None:
    async with openai.AsyncOpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=240) as client:
        stream = await client.chat.completions.create(model="base", messages=CAPITAL, stream=True, max_tokens=8)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_a_pydantic_model_shapes_the_answer(client: openai.OpenAI) -> None:
    class City(BaseModel):
        city: str

    parsed = client.chat.completions.parse(model="base", messages=CAPITAL, response_format=City, max_tokens=40)
    assert isinstance(parsed.choices[0].message.parsed, City)


def test_probabilities_come_with_their_rivals(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="base", messages=CAPITAL, max_tokens=2, logprobs=True, top_logprobs=3)
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content
    assert tokens is not None
    assert len(tokens) == 2
    assert all(len(token.top_logprobs) == 3 for token in tokens)


def test_probabilities_are_streamed_beside_their_tokens(client: openai.OpenAI) -> None:
    wanted: Any = {"model": "base", "messages": CAPITAL, "max_tokens": 4, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**wanted).choices[0].logprobs
    assert whole is not None
    told: list[Any] = []
    text = ""
    for chunk in client.chat.completions.create(**wanted, stream=True):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            told += (choice.logprobs and choice.logprobs.content) or []
    assert [token.token for token in told] == [token.token for token in whole.content or []]
    assert "".join(token.token for token in told) == text
    assert {len(token.top_logprobs) for token in told} == {2}


def test_a_text_to_stop_at_ends_the_answer_and_no_part_of_it_leaves(client: openai.OpenAI) -> None:
    wanted: Any = {"model": "base", "messages": CAPITAL, "max_tokens": 16, "temperature": 0}
    whole = client.chat.completions.create(**wanted).choices[0].message.content or ""
    before, stop, rest = whole.partition("Japan is")
    assert rest
    for given in (stop, ["never said", stop]):
        (choice,) = client.chat.completions.create(**wanted, stop=given).choices
        assert (choice.message.content, choice.finish_reason) == (before, "stop")
    chunks = [it.choices[0] for it in client.chat.completions.create(**wanted, stop=stop, stream=True) if it.choices]
    assert "".join(it.delta.content or "" for it in chunks) == before
    assert chunks[-1].finish_reason == "stop"
    france: Any = {"model": "base", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    (continued,) = client.completions.create(**france, stop="Paris").choices
    assert (continued.text.strip(), continued.finish_reason) == ("", "stop")


def test_a_seed_draws_the_same_again_and_another_one_something_else(client: openai.OpenAI) -> None:
    def drawn(seed: int) -> str | None:
        answer = client.chat.completions.create(
            model="base", messages=CAPITAL, max_tokens=12, temperature=1.5, seed=seed
        )
        return answer.choices[0].message.content

    first = drawn(11)
    assert drawn(11) == first
    assert {drawn(seed) for seed in (12, 13, 14)} != {first}


def test_a_text_is_continued(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="base", prompt="The capital of France is", max_tokens=4)
    assert "Paris" in answer.choices[0].text
    stream = client.completions.create(model="base", prompt="The capital of France is", max_tokens=4, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_several_prompts_are_each_continued_as_alone_and_so_are_their_token_ids(
    client: openai.OpenAI, suite: Suite
) -> None:
    texts = ["The capital of France is", "The capital of Japan is", "The capital of Italy is"]
    short: Any = {"model": "base", "max_tokens": 2}
    alone = [client.completions.create(prompt=text, **short) for text in texts]
    together = client.completions.create(prompt=texts, **short)
    assert [choice.index for choice in together.choices] == [0, 1, 2]
    assert [choice.text for choice in together.choices] == [one.choices[0].text for one in alone]
    assert together.usage is not None
    assert together.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone if one.usage)
    assert together.usage.completion_tokens == 6
    with grpc.insecure_channel(suite.addresses["generator"]) as channel:
        stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        requests = [generator_pb2.TokenizeRequest(text=text) for text in texts]
        ids = [list(stub.Tokenize(one, metadata=metadata(suite.api_key), timeout=30).token_ids) for one in requests]
    assert [choice.text for choice in client.completions.create(prompt=ids, **short).choices] == [
        choice.text for choice in together.choices
    ]
    assert client.completions.create(prompt=ids[1], **short).choices[0].text == together.choices[1].text


def test_a_stream_of_several_prompts_has_the_number_of_each_answer(client: openai.OpenAI) -> None:
    texts = ["The capital of France is", "The capital of Japan is"]
    wanted: Any = {"model": "base", "max_tokens": 3, "n": 2, "temperature": 1.0, "seed": 5, "logprobs": 1}
    told: dict[int, str] = defaultdict(str)
    ends = []
    for chunk in client.completions.create(prompt=texts, stream=True, **wanted):
        (choice,) = chunk.choices
        told[choice.index] += choice.text
        ends += [choice.index] if choice.finish_reason else []
    assert ends == [0, 1, 2, 3]
    # Answer j to prompt i draws with the seed of its number, whatever stands beside it.
    second = client.completions.create(prompt=texts[1], **{**wanted, "seed": 7})
    assert [choice.text for choice in second.choices] == [told[2], told[3]]


def test_a_prompt_that_no_model_can_read_is_told_by_its_place(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="base", prompt=[[1], [10_000_000]], max_tokens=1)
    assert refused.value.param == "prompt[1]"


def test_a_collection_brings_sources_that_resolve_to_their_characters(
    client: openai.OpenAI, collection: str, suite: Suite
) -> None:
    answer = client.chat.completions.create(
        model="base",
        messages=[{"role": "user", "content": "How much is a day ticket for an adult?"}],
        max_tokens=24,
        extra_body={"trivium": {"collection": collection}},
    )
    assert answer.model_extra is not None
    about = answer.model_extra["trivium"]
    assert about["sources"]
    with grpc.insecure_channel(suite.addresses["retriever"]) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        for source in about["sources"]:
            span = {name: source[name] for name in ("collection", "document", "version", "start", "end")}
            request = retriever_pb2.GetDocumentTextRequest(**span)
            stored = stub.GetDocumentText(request, metadata=metadata(suite.api_key), timeout=30)
            assert stored.text == source["text"]
    markers = {source["marker"] for source in about["sources"]}
    assert {item["marker"] for item in about["citations"]} <= markers
    assert not markers & set(about["unresolved_markers"])


def test_an_unknown_model_is_not_found_with_the_nearest_name(client: openai.OpenAI, adapter: Served) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model=f"{adapter.model}s", messages=CAPITAL)
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"
    assert adapter.model in refused.value.message
    assert refused.value.request_id


@pytest.mark.parametrize(
    ("name", "value"), [("tools", [{"type": "function", "function": {"name": "f"}}]), ("store", True)]
)
def test_a_parameter_that_is_not_supported_is_refused_by_name(client: openai.OpenAI, name, value) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="base", messages=CAPITAL, **{name: value})
    assert refused.value.param == name


def test_a_wrong_key_is_an_authentication_error(suite: Suite) -> None:
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key="tv_wrong_key", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.models.list()
    assert refused.value.code == "invalid_api_key"


def test_the_request_id_leads_to_the_receipt(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="base", messages=CAPITAL, max_tokens=4)
    assert answer.model_extra is not None
    kept = client.get(f"/trivium/receipts/{answer._request_id}", cast_to=object)
    assert kept == json.loads(json.dumps(answer.model_extra["trivium"]["receipt"]))


def test_an_answer_that_nobody_waits_for_ends_in_the_engine_too_and_costs_what_was_made(
    client: openai.OpenAI, suite: Suite
) -> None:
    request_id, tokens = str(uuid.uuid4()), 2000  # minutes
    caller: dict[str, Any] = {"metadata": metadata(suite.api_key), "timeout": 30}
    with (
        grpc.insecure_channel(suite.addresses["generator"]) as generator,
        grpc.insecure_channel(suite.addresses["access"]) as access,
    ):
        engines, usage = generator_pb2_grpc.GeneratorServiceStub(generator), access_pb2_grpc.AccessServiceStub(access)

        def listed() -> list[generator_pb2.Engine]:
            return list(engines.ListEngines(generator_pb2.ListEnginesRequest(), **caller).engines)

        def idle() -> bool:
            return not any(engine.running or engine.waiting for engine in listed())

        def begun() -> None:
            eventually(lambda: any(engine.running for engine in listed()), "the engine answers")
            # It joins that in the engine, and comes to the gateway behind the first tokens of that.
            client.chat.completions.create(model="base", messages=CAPITAL, max_tokens=4)

        eventually(idle, "nothing runs before")
        hurried = client.with_options(http_client=Impatient(begun).client(), max_retries=0)
        with pytest.raises(openai.APITimeoutError), hurried:
            hurried.chat.completions.create(
                model="base",
                messages=CAPITAL,
                max_tokens=tokens,
                extra_body={"ignore_eos": True, "trivium": {"request_id": request_id}},
            )
        eventually(idle, "the engine has stopped", 20)

        def recorded() -> list[int]:
            found = usage.ListUsage(access_pb2.ListUsageRequest(page_size=20), **caller).records
            return [it.receipt.usage.completion_tokens for it in found if it.request_id.startswith(request_id)]

        (made,) = eventually(recorded, "what was made is recorded")
    assert 0 < made < tokens


def test_several_choices_come_whole_with_one_prompt_counted(client: openai.OpenAI) -> None:
    wanted: Any = {"model": "base", "messages": CAPITAL, "max_tokens": 12, "temperature": 1.5, "seed": 8}
    answer = client.chat.completions.create(**wanted, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert {choice.finish_reason for choice in answer.choices} <= {"stop", "length"}
    one = client.chat.completions.create(**wanted)
    assert answer.usage is not None
    assert one.usage is not None
    assert answer.usage.prompt_tokens == one.usage.prompt_tokens
    assert answer.usage.completion_tokens > one.usage.completion_tokens


def test_several_choices_are_streamed_each_under_its_index(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="base", messages=CAPITAL, max_tokens=12, temperature=1.5, seed=8, n=3, stream=True
    )
    text: defaultdict[int, str] = defaultdict(str)
    ends, roles = {}, []
    for chunk in stream:
        [choice] = chunk.choices
        roles += [choice.index] if choice.delta.role else []
        text[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            ends[choice.index] = choice.finish_reason
    assert roles == [0, 1, 2] == sorted(ends)
    assert len(set(text.values())) == 3


def test_several_continuations_come_whole_and_streamed_alike(client: openai.OpenAI) -> None:
    wanted: Any = {
        "model": "base",
        "prompt": "Once upon a time",
        "max_tokens": 8,
        "temperature": 1.5,
        "seed": 3,
        "n": 2,
    }
    whole = client.completions.create(**wanted, logprobs=1)
    assert [choice.index for choice in whole.choices] == [0, 1]
    text: defaultdict[int, str] = defaultdict(str)
    for chunk in client.completions.create(**wanted, stream=True):
        for choice in chunk.choices:
            text[choice.index] += choice.text
    assert [choice.text for choice in whole.choices] == [text[0], text[1]]
    for choice in whole.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.text_offset is not None
        assert choice.logprobs.text_offset[0] == 0


def test_several_answers_differ_where_no_temperature_is_said(client: openai.OpenAI) -> None:
    wanted: Any = {"model": "base", "prompt": "Once upon a time", "max_tokens": 24, "seed": 3, "n": 2}
    first, second = client.completions.create(**wanted).choices
    assert first.text != second.text
    assert [choice.text for choice in client.completions.create(**wanted, temperature=1.0).choices] == [
        first.text,
        second.text,
    ]
