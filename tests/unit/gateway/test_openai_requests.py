import json
from typing import Any

import openai
import pytest
from openai._utils import maybe_transform
from openai.lib._parsing import parse_chat_completion
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import BaseModel
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2

from gateway.http.app import ROUTES
from gateway.http.errors import of_status
from gateway.http.parsing import parse
from gateway.http.requests import of_chat, of_completion
from gateway.http.schemas import ChatCompletion, Extension, TextCompletion
from services.chassis.errors import Failure, Reason
from services.chassis.status import to_status
from tests.contract.contracts import PROTOS

ID = "01890000-0000-7000-8000-000000000000"
USER = {"role": "user", "content": "Hi"}

CALLED = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}]


def chat(**fields):
    body = {"model": "base", "messages": [USER], **fields}
    return of_chat(parse(ChatCompletion, json.dumps(body).encode()), ID)


def refusal(**fields):
    with pytest.raises(Failure) as refused:
        chat(**fields)
    return refused.value


def test_a_chat_becomes_a_turn_with_its_sampling():
    request = chat(
        model="support@canary",
        max_completion_tokens=9,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop="END",
        logprobs=True,
        top_logprobs=2,
    )
    assert isinstance(request, gateway_pb2.ChatRequest)
    assert request.model == "support@canary"
    assert request.request_id == ID
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.seed, list(sampling.stop), sampling.logprobs) == (9, 3, ["END"], 2)


def test_the_user_stays_with_one_version():
    assert chat().sticky_key == ""
    assert chat(user="me").sticky_key == "me"
    assert chat(user="me", safety_identifier="hashed").sticky_key == "hashed"


@pytest.mark.parametrize(
    ("fields", "field", "name"),
    [
        ({"user": "me"}, "sticky_key", "user"),
        ({"safety_identifier": "hashed"}, "sticky_key", "safety_identifier"),
        ({"user": "me", "safety_identifier": "hashed"}, "sticky_key", "safety_identifier"),
        ({"max_tokens": 1}, "sampling.max_tokens", "max_tokens"),
        ({"max_completion_tokens": 1}, "sampling.max_tokens", "max_completion_tokens"),
        ({"trivium": {"regex": "a"}}, "structured_output", "trivium.regex"),
        ({"response_format": {"type": "json_object"}}, "structured_output", "response_format"),
        ({"trivium": {"collection": "a"}}, "collections", "trivium.collection"),
        ({"trivium": {"collections": ["a"]}}, "collections", "trivium.collections"),
    ],
)
def test_of_several_names_for_one_field_the_one_that_was_sent_is_kept_for_errors(fields, field, name):
    body = parse(ChatCompletion, json.dumps({"model": "base", "messages": [USER], **fields}).encode())
    assert body.sent[field] == name


def test_a_parameter_that_was_not_given_stays_unset():
    sampling = chat().sampling
    assert not any(sampling.HasField(name) for name in ("max_tokens", "temperature", "seed", "logprobs"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prediction", {"type": "content", "content": "x"}),
        ("store", True),
        ("service_tier", "flex"),
        ("reasoning_effort", "low"),
        ("modalities", ["text", "audio"]),
        ("nonsense", 1),
        # However it is spelled.
        ("topK", 1),
        ("top-k", 1),
        ("Ünsinn", 1),
    ],
)
def test_an_unsupported_parameter_is_refused_by_its_name(name, value):
    failure = refusal(**{name: value})
    assert failure.reason is Reason.PARAMETER_UNSUPPORTED
    assert failure.field == name
    assert name in failure.sentence


@pytest.mark.parametrize(
    ("name", "value"), [("tools", []), ("tools", None), ("user", None), ("store", False), ("logit_bias", {})]
)
def test_a_parameter_that_asks_for_nothing_passes(name, value):
    assert chat(**{name: value}).messages[0].content == "Hi"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"seed": 2**70}, "seed"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "a"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALLED]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": "x", "refusal": "y"}]}, "messages[0].refusal"),
        ({"messages": [{"role": "user", "content": "x", "parsed": {"a": 1}}]}, "messages[0].parsed"),
        ({"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "y"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": "x", "refusal": 1}]}, "messages[0].refusal"),
        ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, "messages[0].role"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "f", "schema": {}}}]}, "tools[0].function.schema"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "trivium": {"collection": "a"}}, "tools"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_malformed_value_is_refused_by_its_name(fields, field):
    failure = refusal(**fields)
    assert failure.field is not None
    assert failure.field.startswith(field)


def test_an_image_is_refused_where_it_stands():
    failure = refusal(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
    assert failure.field == "messages[0].content[0].type"
    assert "'text'" in failure.sentence


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text"}], "messages[0].content[1].text"),
        ([5], "messages[0].content[0]"),
        (5, "messages[0].content"),
    ],
)
def test_content_that_is_no_text_is_refused_where_it_is_wrong(content, field):
    assert refusal(messages=[{"role": "user", "content": content}]).field == field


def test_an_answer_may_be_sent_back_whole():
    earlier = {"role": "assistant", "content": "Hello", "refusal": None, "tool_calls": None, "audio": None}
    assert [turn.content for turn in chat(messages=[USER, earlier, USER]).messages] == ["Hi", "Hello", "Hi"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": None, "refusal": "The sources do not say."}, "The sources do not say."),
        ({"content": "", "refusal": "No."}, "No."),
        ({"refusal": "No."}, "No."),
        ({"content": [{"type": "text", "text": "Well. "}, {"type": "refusal", "refusal": "No."}]}, "Well. No."),
    ],
)
def test_a_refusal_is_what_the_assistant_said(message, said):
    [_, turn, _] = chat(messages=[USER, {"role": "assistant", **message}, USER]).messages
    assert (turn.role, turn.content) == (chat_pb2.CHAT_ROLE_ASSISTANT, said)


def as_the_client_sends(message):
    """The message as the client itself puts it into its next request."""
    body: Any = maybe_transform({"model": "base", "messages": [USER, message]}, CompletionCreateParamsNonStreaming)
    return json.loads(json.dumps(body["messages"][1]))


class Weather(BaseModel):
    city: str


def answered(**message):
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": {"role": "assistant", **message}}
    about = {"id": "chatcmpl-a", "object": "chat.completion", "created": 1, "model": "base", "choices": [choice]}
    return openai.types.chat.ChatCompletion.model_validate(about)


CALL = {"id": "a", "type": "function", "function": {"name": "Weather", "arguments": '{"city": "Zug"}'}}


# The client dumps what it read as if nothing had been asked to be read, and says so.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("tools", [[openai.pydantic_function_tool(Weather)], []], ids=["read", "unread"])
@pytest.mark.parametrize("shape", [Weather, openai.omit])
def test_what_the_clients_parse_helper_returns_may_be_sent_back(tools, shape):
    answer = answered(content='{"city": "Chur"}', refusal=None, tool_calls=[CALL])
    parsed = parse_chat_completion(response_format=shape, input_tools=tools, chat_completion=answer)
    sent = as_the_client_sends(parsed.choices[0].message)
    assert "parsed" in sent
    assert "parsed_arguments" in sent["tool_calls"][0]["function"]
    turn = chat(messages=[USER, sent]).messages[1]
    assert turn.content == '{"city": "Chur"}'
    assert [(call.name, call.arguments) for call in turn.tool_calls] == [("Weather", '{"city": "Zug"}')]


def test_what_the_clients_stream_helper_put_together_may_be_sent_back():
    state = ChatCompletionStreamState(input_tools=[openai.pydantic_function_tool(Weather)])
    first = {"id": "a", "type": "function", "function": {"name": "Weather", "arguments": '{"city":'}}
    deltas = [
        {"role": "assistant", "content": ""},
        {"tool_calls": [{"index": 0, **first}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ' "Zug"}'}}]},
        {},
    ]
    for delta in deltas:
        reason = None if delta else "tool_calls"
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "base", "choices": [choice]}
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    sent = as_the_client_sends(state.get_final_completion().choices[0].message)
    [turn] = chat(messages=[sent]).messages
    assert [(call.id, call.name, call.arguments) for call in turn.tool_calls] == [("a", "Weather", '{"city": "Zug"}')]


def test_tools_and_the_choice_among_them_cross_whole():
    use = chat(tools=TOOLS, parallel_tool_calls=False).tool_use
    assert [(tool.name, tool.parameters, tool.strict) for tool in use.tools] == [("f", '{"type": "object"}', True)]
    assert (use.choice, use.single) == (chat_pb2.TOOL_CHOICE_AUTO, True)
    bare = [{"type": "function", "function": {"name": "f", "description": None}}]
    use = chat(tools=bare, tool_choice={"type": "function", "function": {"name": "f"}}).tool_use
    assert (use.choice, use.name, use.tools[0].HasField("strict")) == (chat_pb2.TOOL_CHOICE_NAMED, "f", False)
    assert chat(tools=TOOLS, tool_choice="none").tool_use.choice == chat_pb2.TOOL_CHOICE_NONE
    assert not chat(tool_choice="auto").HasField("tool_use")


def test_a_call_and_its_result_may_be_sent_back():
    turns = [{"role": "assistant", "content": None, "tool_calls": [CALLED]}]
    turns += [{"role": "tool", "tool_call_id": "a", "content": "4"}]
    calling, result = chat(messages=[USER, *turns]).messages[1:]
    assert [(call.id, call.name, call.arguments) for call in calling.tool_calls] == [("a", "f", "{}")]
    assert (result.role, result.tool_call_id, result.content) == (chat_pb2.CHAT_ROLE_TOOL, "a", "4")


def test_text_parts_are_one_text_and_a_developer_is_the_system():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = chat(messages=[{"role": "developer", "content": parts}, USER])
    assert request.messages[0].content == "ab"
    assert request.messages[0].role == chat_pb2.CHAT_ROLE_SYSTEM


def test_two_different_limits_contradict_each_other():
    assert refusal(max_tokens=1, max_completion_tokens=2).field == "max_completion_tokens"
    assert chat(max_tokens=2, max_completion_tokens=2).sampling.max_tokens == 2


def test_a_schema_becomes_structured_output():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert json.loads(chat(response_format=wanted).structured_output.json_schema) == schema
    assert chat(response_format={"type": "json_object"}).structured_output.json_object
    assert not chat(response_format={"type": "text"}).HasField("structured_output")


def test_a_collection_makes_it_a_question_with_sources():
    turns = [{"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "Yes?"}]
    request = chat(
        messages=[*turns, {"role": "user", "content": "Who pays?"}], trivium={"collection": "handbook", "top_k": 2}
    )
    assert isinstance(request, gateway_pb2.AskRequest)
    assert request.question == "Who pays?"
    assert list(request.collections) == ["handbook"]
    assert [turn.content for turn in request.history] == ["Be brief.", "Hi", "Yes?"]
    assert request.top_k == 2


def test_what_is_of_sources_alone_is_refused_without_any():
    for said in ({"top_k": 2}, {"explain": True}, {"rewrite": True}, {"fallbacks": False}, {"as_readers": ["a"]}):
        assert refusal(trivium=said).field == f"trivium.{next(iter(said))}"


def test_a_collection_without_a_name_is_one_and_not_none():
    request = chat(trivium={"collection": ""})
    assert isinstance(request, gateway_pb2.AskRequest)
    assert list(request.collections) == [""]


def test_a_schema_beside_another_shape_is_refused():
    for kind in ("text", "json_object"):
        shape = {"type": kind, "json_schema": {"name": "x", "schema": {}}}
        assert refusal(response_format=shape).field == "response_format.json_schema"


def test_a_question_with_sources_ends_with_the_user():
    failure = refusal(messages=[USER, {"role": "assistant", "content": "x"}], trivium={"collection": "h"})
    assert failure.field == "messages"


def test_a_completion_continues_its_prompt():
    body = parse(TextCompletion, json.dumps({"model": "base", "prompt": ["Once"], "logprobs": 2}).encode())
    request = of_completion(body, ID)
    assert request.prompt == "Once"
    assert request.sampling.logprobs == 2


def prompted(prompt):
    return of_completion(parse(TextCompletion, json.dumps({"model": "base", "prompt": prompt}).encode()), ID)


@pytest.mark.parametrize(
    ("prompt", "goes_on"),
    [
        (["Once", "Twice"], ["Once", "Twice"]),
        ([1, 2, 3], [(1, 2, 3)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
        ([[1, 2]], [(1, 2)]),
    ],
)
def test_texts_and_token_ids_go_on_as_they_are(prompt, goes_on):
    request = prompted(prompt)
    assert request.prompt == ""
    assert [one.text or tuple(one.token_ids.ids) for one in request.prompts] == goes_on


@pytest.mark.parametrize(
    ("prompt", "field", "word"),
    [
        ([], "prompt", "send a text"),
        ("", "prompt", "nothing to continue"),
        (["Once", 1], "prompt[1]", "a list of token ids"),
        (["Once", ""], "prompt[1]", "nothing to continue"),
        ([1, "Once"], "prompt[0]", "a list of token ids"),
        ([[1], []], "prompt[1]", "nothing to continue"),
        ([[1], ["a"]], "prompt[1]", "token ids"),
        ([1, -1], "prompt", "from 0"),
        ([2**31], "prompt", "from 0"),
        ([True], "prompt[0]", "token ids"),
        ([None], "prompt[0]", "a text"),
        (7, "prompt", ""),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_told_by_its_place(prompt, field, word):
    with pytest.raises(Failure) as refused:
        prompted(prompt)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, field)
    assert word in refused.value.sentence


@pytest.mark.parametrize(
    ("prompt", "ours", "told"),
    [
        (["a", "b"], "prompts[1]", "prompt[1]"),
        ([[1], [2]], "prompts[1]", "prompt[1]"),
        ([1, 2], "prompts[0]", "prompt"),
        ([1, 2], "token_ids", "prompt"),
        ("a", "text", "prompt"),
        (["a"], "prompts", "prompt"),
    ],
)
def test_what_the_core_says_of_a_prompt_is_told_by_its_place_in_the_request(prompt, ours, told):
    body = parse(TextCompletion, json.dumps({"model": "base", "prompt": prompt}).encode())
    status = to_status(Failure(Reason.FIELD_INVALID, field=ours, problem="is wrong"), correlation_id="c")
    error = json.loads(of_status(status, "r", body.sent).body)["error"]
    assert (error["param"], error["message"]) == (told, f"{told}: is wrong")


OURS = sorted(Extension.model_fields.keys() & gateway_pb2.AskRequest.DESCRIPTOR.fields_by_name.keys())


@pytest.mark.parametrize(
    ("schema", "beside"), [(ChatCompletion, {"messages": [USER]}), (TextCompletion, {"prompt": "x"})]
)
@pytest.mark.parametrize("field", [*OURS, "filter.any_of", "as_readers[0]"])
def test_what_the_core_refuses_of_the_extension_is_told_where_it_was_written(schema, beside, field):
    body = parse(schema, json.dumps({"model": "base", **beside}).encode())
    status = to_status(Failure(Reason.FIELD_INVALID, field=field, problem="is wrong"), correlation_id="c")
    error = json.loads(of_status(status, "r", body.sent).body)["error"]
    told = f"trivium.{field.partition('.')[0].partition('[')[0]}"
    assert (error["param"], error["message"]) == (told, f"{told}: is wrong")


def test_that_nothing_may_be_replaced_is_told_by_the_callers_own_name():
    body = parse(ChatCompletion, json.dumps({"model": "base", "messages": [USER]}).encode())
    status = to_status(Failure(Reason.FIELD_INVALID, field="no_fallbacks", problem="is wrong"), correlation_id="c")
    assert json.loads(of_status(status, "r", body.sent).body)["error"]["param"] == "trivium.fallbacks"


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_schema_is_held_to_whether_that_is_demanded_or_not(strict):
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": strict}}
    assert json.loads(chat(response_format=shape).structured_output.json_schema) == {"type": "object"}
    tools = [{"type": "function", "function": {"name": "f", "strict": False}}]
    assert chat(tools=tools).tool_use.tools[0].strict is False


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_json_object_are_refused(raw):
    with pytest.raises(Failure) as refused:
        parse(ChatCompletion, raw)
    assert refused.value.reason is Reason.BODY_NOT_DECODABLE


@pytest.mark.parametrize("name", ["messages", "tools"])
def test_a_body_is_refused_where_it_is_wrong_however_deep_it_is(name):
    said = {
        "model": '"base"',
        "messages": json.dumps([USER]),
        name: '[{"function":' + '{"function":' * 900 + "1" + "}" * 901 + "]",
    }
    body = "{" + ", ".join(f'"{field}": {value}' for field, value in said.items()) + "}"
    with pytest.raises(Failure) as refused:
        parse(ChatCompletion, body.encode())
    assert (refused.value.field or "").startswith(f"{name}[0]")


@pytest.mark.parametrize("schema", [ChatCompletion, TextCompletion, Extension])
def test_the_reference_names_every_parameter_that_is_taken(schema: type[BaseModel]) -> None:
    section = (PROTOS / "README.md").read_text().split("### Over HTTP", 1)[1].split("\n## ", 1)[0]
    missing = [name for name in schema.model_fields if f"`{name}`" not in section]
    assert missing == []


def test_the_reference_names_every_route_or_what_it_lies_under() -> None:
    section = (PROTOS / "README.md").read_text().split("### Over HTTP", 1)[1].split("| parameter |", 1)[0]
    roots = {route.path.partition("{")[0].rstrip("/") for route in ROUTES}
    assert [root for root in sorted(roots) if root not in section] == []
