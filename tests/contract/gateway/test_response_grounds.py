"""What Trivium adds to responses, by the published client alone: asked by ``extra_body``, read from ``model_extra``."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from trivium.retriever.v1 import retriever_pb2

from tests.front import Front, Visitor
from tests.library import Library
from tests.node_flows import NodeFlows
from tests.stack import User

QUESTION = "How much is a day ticket?"
ELSEWHERE = "Who discovered oxygen?"
FARES = "# Fares\n\nAn adult's day ticket is 9 crowns.\n"
FOG = "# Fog – or mist\n\nIn fog the boats sail at half speed. They sound one long blast every two minutes.\n"


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
    return searching(stored(client, somebody, {"fares.md": FARES}))


def stored(client: openai.OpenAI, somebody: Visitor, texts: dict[str, str]) -> str:
    """A new store of files by these names."""
    made = client.vector_stores.create(name="Ferry")
    for name, text in texts.items():
        client.vector_stores.files.create_and_poll(somebody.file(text, name), vector_store_id=made.id)
    return made.id


def searching(store: str) -> dict[str, Any]:
    return {
        "model": "base",
        "tools": [{"type": "file_search", "vector_store_ids": [store]}],
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


def test_a_store_says_what_becomes_of_a_question_that_it_cannot_answer(
    client: openai.OpenAI, somebody: Visitor, library: Library
) -> None:
    store = stored(client, somebody, {"fares.md": FARES})
    before = told(client.responses.create(input=ELSEWHERE, **searching(store)))["abstention"]
    assert (before["policy"], before["abstained"], before["hedged"]) == ("hedge", False, True)
    strict = retriever_pb2.SearchSettings(abstention=retriever_pb2.ABSTENTION_POLICY_STRICT)
    update = retriever_pb2.UpdateCollectionRequest(collection=store, search_settings=strict)
    library.api(somebody.key).UpdateCollection(update)
    answer = client.responses.create(input=ELSEWHERE, **searching(store))
    after = told(answer)["abstention"]
    assert (after["policy"], after["abstained"], after["hedged"]) == ("strict", True, False)
    assert answer.output_text == after["says"]
    # What is asked for still counts more.
    off = {"trivium": {"abstention": "off"}}
    stated = told(client.responses.create(input=ELSEWHERE, extra_body=off, **searching(store)))["abstention"]
    assert (stated["policy"], stated["abstained"]) == ("off", False)


def test_a_summary_of_a_store_cites_the_characters_that_it_is_made_of(client: openai.OpenAI, somebody: Visitor) -> None:
    store = stored(client, somebody, {"fares.md": FARES, "fog.md": FOG})
    summary: Any = {"extra_body": {"trivium": {"path": "summary"}}, "include": ["file_search_call.results"]}
    answer = client.responses.create(input="What is in it?", **summary, **searching(store))
    assert told(answer)["path"] == "summary"
    search, message = answer.output
    assert search.type == "file_search_call"
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    content = {
        it.id: "".join(page.text or "" for page in client.vector_stores.files.content(it.id, vector_store_id=store))
        for it in client.vector_stores.files.list(store)
    }
    sources = {it.model_extra["trivium"]["marker"]: it for it in search.results or [] if it.model_extra}
    cited = set()
    for annotation in part.annotations:
        assert annotation.type == "file_citation"
        about = annotation.model_extra["trivium"] if annotation.model_extra else {}
        source = sources[about["marker"]]
        assert part.text[annotation.index : about["end_index"]] == f"[{about['marker']}]"
        assert (source.file_id, source.text) == (
            annotation.file_id,
            content[annotation.file_id][about["start"] : about["end"]],
        )
        # Nothing writes here but the sources: each sentence is one of theirs.
        assert f"{source.text} [{about['marker']}]" in part.text
        cited.add(annotation.file_id)
    assert cited == content.keys()


def test_a_version_is_asked_in_the_shape_that_it_was_trained_on(
    client: openai.OpenAI, somebody: Visitor, searched: dict[str, Any], answering: Front
) -> None:
    registry = User(answering.stack.registry_api(somebody.key), "")
    registry.publish("desk", lineage={"config": {"prompt_format": "documents-1"}})
    registry.publish("plain")
    asked = {
        model: told(client.responses.create(input=QUESTION, **{**searched, "model": f"{model}@1"}))
        for model in ("desk", "plain")
    }
    assert {model: it["prompt_format"] for model, it in asked.items()} == {
        "desk": "documents-1",
        "plain": "numbered-sources-1",
    }
    # It is told of the prompt that was made, which is another one.
    assert len({it["receipt"]["prompt_tokens_digest"] for it in asked.values()}) == 2


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
