"""Responses by the published client alone: answers from files whose annotations resolve, and conversations that go on."""

import io
from collections.abc import Iterator
from typing import Literal

import openai
import pytest
from pydantic import BaseModel

from services.ops.supervisor import Suite

FARES = b"# Fares\n\nAn adult's day ticket is 9 crowns. A child's day ticket is 4 crowns. Dogs travel free.\n"
FOG = b"# Fog\n\nIn fog the boats sail at half speed and sound one long blast every two minutes.\n"
QUESTION = "How much is a day ticket for an adult?"


class Fare(BaseModel):
    """What the answer is made to be: a model this small seldom ends, or cites, by itself."""

    answer: Literal["9 crowns [1]", "4 crowns [1]"]


class City(BaseModel):
    """One of two, so that the answer ends."""

    name: Literal["Tokyo", "Kyoto"]


@pytest.fixture(scope="module")
def client(suite: Suite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=240, max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def store(client: openai.OpenAI) -> str:
    made = client.vector_stores.create(name="Ferry")
    for name, content in (("fares.md", FARES), ("fog.md", FOG)):
        put = client.vector_stores.files.upload_and_poll(vector_store_id=made.id, file=(name, io.BytesIO(content)))
        about = "weather" if name == "fog.md" else "money"
        client.vector_stores.files.update(put.id, vector_store_id=made.id, attributes={"about": about})
    return made.id


def test_an_answer_comes_from_files_and_its_annotations_resolve_to_characters(
    client: openai.OpenAI, store: str
) -> None:
    answer = client.responses.create(
        model="base",
        input=QUESTION,
        tools=[{"type": "file_search", "vector_store_ids": [store], "max_num_results": 1}],
        # A model this small seldom cites by itself: the shape makes it.
        text={
            "format": {
                "type": "json_schema",
                "name": "cited",
                "schema": {
                    "type": "object",
                    "properties": {"answer": {"enum": ["9 crowns [1]"]}},
                    "required": ["answer"],
                    "additionalProperties": False,
                },
                "strict": True,
            }
        },
        include=["file_search_call.results"],
        max_output_tokens=32,
        temperature=0,
    )
    search, message = answer.output
    assert search.type == "file_search_call"
    assert search.results is not None
    (result,) = search.results
    assert (result.filename, result.text is not None) == ("fares.md", True)
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    (annotation,) = part.annotations
    assert annotation.type == "file_citation"
    assert annotation.filename == "fares.md"
    about = annotation.model_extra["trivium"] if annotation.model_extra else {}
    assert part.text[annotation.index : about["end_index"]] == "[1]"
    content = "".join(
        it.text or "" for it in client.vector_stores.files.content(annotation.file_id, vector_store_id=store)
    )
    assert content[about["start"] : about["end"]] == result.text


def test_a_streamed_answer_has_the_events_in_their_order_and_ends_with_the_whole(
    client: openai.OpenAI, store: str
) -> None:
    tools = [{"type": "file_search", "vector_store_ids": [store], "max_num_results": 1}]
    with client.responses.stream(model="base", input=QUESTION, tools=tools, text_format=Fare) as stream:  # type: ignore[arg-type]  # plain dicts do
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:8] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
    ]
    assert kinds[8] == "response.content_part.added"
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds[-5] == "response.output_text.annotation.added"
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text
    assert isinstance(final.output_parsed, Fare)
    assert final.usage is not None
    assert final.usage.total_tokens == final.usage.input_tokens + final.usage.output_tokens


def test_only_files_that_pass_the_filter_are_answered_from(client: openai.OpenAI, store: str) -> None:
    answer = client.responses.create(
        model="base",
        input=QUESTION,
        tools=[
            {
                "type": "file_search",
                "vector_store_ids": [store],
                "filters": {"type": "eq", "key": "about", "value": "weather"},
            }
        ],
        include=["file_search_call.results"],
        max_output_tokens=1,
    )
    search = answer.output[0]
    assert search.type == "file_search_call"
    assert [result.filename for result in search.results or []] == ["fog.md"]
    assert search.results is not None
    assert search.results[0].attributes == {"about": "weather"}


def test_parse_gives_what_the_schema_says(client: openai.OpenAI) -> None:
    answer = client.responses.parse(
        model="base", input="Name the capital of Japan.", text_format=City, max_output_tokens=32, temperature=0
    )
    assert answer.status == "completed"
    assert answer.output_parsed is not None
    assert answer.output_parsed.name in ("Tokyo", "Kyoto")


def test_a_conversation_goes_on_by_the_response_before(client: openai.OpenAI) -> None:
    first = client.responses.create(
        model="base",
        input=[{"role": "user", "content": "Say: harbour"}],
        instructions="Be brief.",
        metadata={"of": "the test"},
        max_output_tokens=4,
    )
    second = client.responses.create(
        model="base", input="And again?", previous_response_id=first.id, max_output_tokens=4
    )
    assert second.previous_response_id == first.id
    assert second.usage is not None
    alone = client.responses.create(model="base", input="And again?", max_output_tokens=4, store=False)
    assert alone.usage is not None
    # What was said before stands in the prompt.
    assert second.usage.input_tokens > alone.usage.input_tokens + 4
    counted = client.responses.input_tokens.count(model="base", input="And again?", previous_response_id=first.id)
    assert counted.input_tokens == second.usage.input_tokens
    kept = client.responses.retrieve(first.id)
    assert (kept.output_text, kept.instructions, kept.metadata) == (
        first.output_text,
        "Be brief.",
        {"of": "the test"},
    )
    (asked,) = client.responses.input_items.list(first.id)
    assert asked.type == "message"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(alone.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.cancel(first.id)
    assert refused.value.code == "response_not_in_background"
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="base", input="And?", previous_response_id=second.id, max_output_tokens=2)
    assert missing.value.code == "response_not_found"


def test_what_is_not_supported_is_refused_by_name(client: openai.OpenAI) -> None:
    for fields, param in (
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"background": True}, "background"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"truncation": "auto"}, "truncation"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"model": "never"}, "model"),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            client.responses.create(**{"model": "base", "input": "Hello", "max_output_tokens": 1, **fields})  # type: ignore[call-overload]  # what types forbid
        assert refused.value.param == param, refused.value
