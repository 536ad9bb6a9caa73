"""Tools through the unmodified official client, for a model whose chat template has them."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import Served, adapter_files, serve
from tests.stack import eventually
from tests.tiny_model import TOOL_TEMPLATE

QUESTION: Any = [{"role": "user", "content": "How is the weather in Zug?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Zug", "Chur"]}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": SCHEMA}}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
TOOLS: Any = [WEATHER, TIME]
NAMED: Any = {"type": "function", "function": {"name": "weather"}}


class Weather(BaseModel):
    """The weather."""

    city: Literal["Zug", "Chur"]


@pytest.fixture(scope="module")
def client(suite: Suite):
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=240, max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(suite: Suite) -> str:
    """An adapter on the base that brings a template with tools along."""
    files = {**adapter_files(11), "chat_template.jinja": TOOL_TEMPLATE.encode()}
    served: Served = serve(suite, "openai-tools", files)
    return served.model


def test_a_named_function_is_called_with_arguments_of_its_schema(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, tools=TOOLS, tool_choice=NAMED, max_tokens=160
    )
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Zug", "Chur")
    assert arguments["days"] in (1, 2)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "Fog."}
    turns = [*QUESTION, choice.message, result]
    after = client.chat.completions.create(model=model, messages=turns, tools=TOOLS, tool_choice="none", max_tokens=4)
    assert after.choices[0].finish_reason in ("stop", "length")
    assert after.choices[0].message.tool_calls is None
    assert after.usage is not None
    assert answer.usage is not None


def test_calls_are_streamed_and_put_together_by_the_clients_own_helper(client: openai.OpenAI, model: str) -> None:
    wanted: Any = {"model": model, "messages": QUESTION, "tools": TOOLS, "tool_choice": NAMED, "max_tokens": 160}

    def streamed() -> list[Any]:
        return list(client.chat.completions.create(**wanted, stream=True))

    def parts_of(chunks: list[Any]) -> list[Any]:
        return [part for chunk in chunks for part in (chunk.choices[0].delta.tool_calls or [])]

    # On a machine that stalls all of a call may come together.
    chunks = eventually(lambda: next((it for it in [streamed()] if len(parts_of(it)) > 2), []), "it comes in pieces")
    parts = parts_of(chunks)
    assert parts[0].id
    assert [bool(part.id) for part in parts[1:]] == [False] * (len(parts) - 1)
    with client.chat.completions.stream(**wanted) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    [call] = final.choices[0].message.tool_calls
    written = "".join(part.function.arguments or "" for part in parts if part.function)
    assert json.loads(written) == json.loads(call.function.arguments)
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "tool_calls"


def test_some_call_is_required_and_the_parse_helper_reads_it_and_sends_it_back(
    client: openai.OpenAI, model: str
) -> None:
    tool = openai.pydantic_function_tool(Weather)
    parsed = client.chat.completions.parse(
        model=model,
        messages=QUESTION,
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=160,
    )
    assert parsed.choices[0].message.tool_calls is not None
    [call] = parsed.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "Fog."}
    turns: Any = [*QUESTION, parsed.choices[0].message, result]
    after = client.chat.completions.create(model=model, messages=turns, tools=[tool], tool_choice="none", max_tokens=4)
    assert after.choices[0].finish_reason in ("stop", "length")


def test_a_model_may_leave_its_tools_alone(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, tools=TOOLS, max_tokens=6)
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None


def test_a_model_whose_template_has_no_tools_says_so_by_the_parameters_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="base", messages=QUESTION, tools=TOOLS)
    assert (refused.value.code, refused.value.param) == ("tools_unsupported", "tools")
    assert "template" in refused.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "tides"}}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {
                "tool_choice": "required",
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "nonsense"}}}],
            },
            "tools",
        ),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_of_tools_cannot_be_done_is_refused_by_name(client: openai.OpenAI, model: str, fields, param) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": model, "messages": QUESTION, "tools": TOOLS, **fields})
    assert refused.value.param == param


def test_a_function_is_called_in_a_response_and_what_it_returned_goes_on_from_there(
    client: openai.OpenAI, model: str
) -> None:
    weather: Any = {"type": "function", "name": "weather", "parameters": SCHEMA}
    chosen: Any = {"type": "function", "name": "weather"}
    with client.responses.stream(
        model=model, input="How is the weather in Zug?", tools=[weather], tool_choice=chosen, max_output_tokens=160
    ) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    [call] = answer.output
    assert call.type == "function_call"
    assert (call.name, call.status) == ("weather", "completed")
    assert json.loads(call.arguments)["city"] in ("Zug", "Chur")
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    assert answer.tools[0].to_dict()["parameters"] == SCHEMA
    counted = client.responses.input_tokens.count(
        model=model, input="How is the weather in Zug?", tools=[weather], tool_choice=chosen
    )
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Fog."}
    after = client.responses.create(model=model, previous_response_id=answer.id, input=[output], max_output_tokens=4)
    assert after.output_text
    items = client.responses.input_items.list(after.id)
    assert [item.type for item in items] == ["function_call_output"]
