"""What Trivium adds to responses, by the published client alone: asked by ``extra_body``, read from ``model_extra``."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.front import Front, Visitor
from tests.node_flows import NodeFlows

QUESTION = "How much is a day ticket?"
ELSEWHERE = "Who discovered oxygen?"


class Fare(BaseModel):
    """What an answer would be made to be."""

    crowns: int


@pytest.fixture(scope="module")
def somebody(answering: Front) -> Visitor:
    return answering.newcomer()


@pytest.fixture(scope="module")
def client(somebody: Visitor, answering: Front) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=answering.http, api_key=somebody.key, max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def searched(client: openai.OpenAI, somebody: Visitor) -> dict[str, Any]:
    made = client.vector_stores.create(name="Ferry")
    file = somebody.file("# Fares\n\nAn adult's day ticket is 9 crowns.\n", "fares.md")
    client.vector_stores.files.create_and_poll(file, vector_store_id=made.id)
    return {
        "model": "base",
        "tools": [{"type": "file_search", "vector_store_ids": [made.id]}],
        "max_output_tokens": 2,
    }


def hear(stream: Any, kinds: list[str]) -> None:
    for event in stream:
        kinds += [event.type]


def told(response: Any) -> dict[str, Any]:
    extra: dict[str, Any] = response.model_extra["trivium"]
    return extra


def test_what_was_asked_and_found_out_is_told_and_kept(client: openai.OpenAI, searched: dict[str, Any]) -> None:
    wanted = {"abstention": "hedge", "release": "sentence", "rewrite": False, "check_support": True, "explain": True}
    answer = client.responses.create(input=QUESTION, extra_body={"trivium": wanted}, **searched)
    trivium = told(answer)
    (sentence,) = trivium["sentences"]
    assert answer.output_text[sentence["start"] : sentence["end"]].strip() == "word word"
    assert (sentence["verdict"], sentence["judge"]) == ("unsupported", "model")
    assert (trivium["path"], trivium["abstention"]["policy"]) == ("passages", "hedge")
    stages = {it["stage"]: it for it in trivium["stages"]}
    assert set(stages) >= {"resolve", "embed", "retrieve", "decide", "prompt", "check", "verify"}
    assert stages["retrieve"]["decision"].startswith("1 passages")
    assert stages["retrieve"]["seconds"] < stages["retrieve"]["budget_seconds"]
    assert told(client.responses.retrieve(answer.id)) == trivium


def test_a_stream_tells_before_its_text_what_was_decided(client: openai.OpenAI, searched: dict[str, Any]) -> None:
    events = list(client.responses.create(input=QUESTION, stream=True, **searched))
    assert [events[0].type, events[-1].type] == ["response.created", "response.incomplete"]
    first, last = (told(getattr(event, "response", None)) for event in (events[0], events[-1]))
    assert {name: last[name] for name in first} == first
    assert (first["path"], first["abstention"]["abstained"]) == ("passages", False)
    assert "stages" not in last


def test_what_the_sources_do_not_hold_is_refused_where_it_was_to_have_a_shape(
    client: openai.OpenAI, searched: dict[str, Any]
) -> None:
    strict = {"trivium": {"abstention": "strict"}}
    in_words = client.responses.create(input=ELSEWHERE, extra_body=strict, **searched)
    assert "not in the sources" in in_words.output_text
    assert told(in_words)["abstention"]["abstained"]
    with client.responses.stream(input=ELSEWHERE, text_format=Fare, extra_body=strict, **searched) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert [it for it in kinds if "refusal" in it] == ["response.refusal.delta", "response.refusal.done"]
    assert (answer.status, answer.output_parsed, answer.output_text) == ("completed", None, "")
    message = answer.output[-1]
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "refusal"
    assert part.refusal == told(answer)["abstention"]["says"]
    # What a client answers with goes back as it came.
    back: Any = [*(it.to_dict() for it in answer.output), {"role": "user", "content": "So?"}]
    again = client.responses.create(model="base", input=back, max_output_tokens=2)
    assert again.output_text.strip() == "word word"


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"abstention": "strict"}, "trivium.abstention"),
        ({"release": "sentence"}, "trivium.release"),
        ({"check_support": True}, "trivium.check_support"),
        ({"collections": ["c"]}, "trivium.collections"),
        ({"fallback": "x" * 257}, "trivium.fallback"),
        ({"request_id": "no uuid"}, "trivium.request_id"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(client: openai.OpenAI, said: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="base", input="Hello", extra_body={"trivium": said})
    assert refused.value.param == param


def test_withholding_after_the_fact_is_refused_by_the_name_that_it_was_asked_by(
    client: openai.OpenAI, searched: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(input=QUESTION, extra_body={"trivium": {"unsupported": "withhold"}}, **searched)
    assert refused.value.param == "trivium.unsupported"


def test_a_stream_that_fails_tells_the_failed_response_and_raises(client: openai.OpenAI) -> None:
    own = {"trivium": {"request_id": str(uuid.uuid4())}}
    first = client.responses.create(model="base", input="Hello", max_output_tokens=2, extra_body=own)
    assert told(first)["request_id"] == own["trivium"]["request_id"]
    kinds: list[str] = []
    stream = client.responses.create(model="base", input="Another", max_output_tokens=2, stream=True, extra_body=own)
    with pytest.raises(openai.APIError) as broken:
        hear(stream, kinds)
    assert (kinds[0], kinds[-1]) == ("response.created", "response.failed")
    assert (broken.value.code, broken.value.type) == ("request_id_reused", "invalid_request_error")


def test_the_client_for_node_is_told_the_same(somebody: Visitor, answering: Front, tmp_path: Path) -> None:
    found = NodeFlows(tmp_path, answering.http, somebody.key)("failing_response", str(uuid.uuid4()))
    assert (found["first"], found["last"]) == ("response.created", "response.failed")
    assert found["isApiError"]
    assert (found["code"], found["type"]) == ("request_id_reused", "invalid_request_error")
    assert found["helper"] == found["code"]
    assert found["counted"] == 7


def test_a_prompt_is_counted_without_an_answer(client: openai.OpenAI, searched: dict[str, Any]) -> None:
    counted = client.responses.input_tokens.count(model="base", input=QUESTION, instructions="Be brief.")
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 7)
    assert counted.model_extra == {"trivium": {"context_tokens": 8192}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.input_tokens.count(model="base", input=QUESTION, tools=searched["tools"])
    assert refused.value.param == "tools[0]"
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.input_tokens.count(model="base", input=QUESTION, previous_response_id="resp_never")
    assert missing.value.code == "response_not_found"
