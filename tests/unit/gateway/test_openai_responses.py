import json
from typing import Any

import openai.types.responses
import pytest
from google.protobuf import json_format
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2
from trivium.gateway.v1 import responses_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

from gateway.http import queries
from gateway.http.errors import of_status
from gateway.http.filters import told
from gateway.http.responses import rendering, requests
from gateway.http.responses.answers import ItemsShown, ResponseShown
from gateway.http.responses.events import ResponseStreamed
from gateway.http.responses.routes import SENT
from gateway.http.transport import Asked
from gateway.responses.wire import of_settings, to_settings
from services.chassis.errors import Failure, Reason
from services.chassis.status import to_status

FILTER = {
    "type": "or",
    "filters": [
        {"type": "eq", "key": "open", "value": True},
        {"type": "and", "filters": [{"type": "in", "key": "line", "value": ["north", "south"]}]},
        {"type": "gte", "key": "year", "value": 2020.0},
    ],
}
# Messages written as literals, which the stubs do not know of.
PB: Any = pb
CITATION = PB.FileCitation(file="f", filename="n", index=2, end_index=5, span={"marker": 1, "document": "f", "end": 3})
FOUND = PB.FileSearchResult(file="f", filename="n", text="abc", attributes={"year": {"number": 2020.0}})
SEARCH = PB.ResponseItem(item="fs", file_search_call={"queries": ["q"], "results": [FOUND]})
ANSWER = PB.ResponseItem(
    item="m", message={"role": chat_pb2.CHAT_ROLE_ASSISTANT, "parts": ["a [1]"], "citations": [CITATION]}
)
CALL = PB.ResponseItem(item="fc", function_call={"call": "c", "name": "f", "arguments": "{}"})
REFUSAL = PB.ResponseItem(
    item="m", message={"role": chat_pb2.CHAT_ROLE_ASSISTANT, "parts": ["It is not in the sources."], "refused": True}
)
RETURNED = PB.ResponseItem(item="fco", function_call_output={"call": "c", "output": "fog"})
FUNCTION = {
    "type": "function",
    "name": "weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": ["string", "null"]}}},
    "strict": True,
}
RANKING = "tools[0].ranking_options"


GROUNDS: dict[str, Any] = {
    "path": gateway_pb2.ANSWER_PATH_PASSAGES,
    "abstention": {"policy": retriever_pb2.ABSTENTION_POLICY_HEDGE, "score": 0.5, "hedged": True, "says": "x"},
    "rewrite": {"question": "q", "reason": "r"},
    "left_out": [{"span": {"document": "d", "end": 3}, "title": "t", "text": "abc"}],
    "sentences": [
        {
            "end": 3,
            "verdict": gateway_pb2.SUPPORT_VERDICT_UNSUPPORTED,
            "judge": gateway_pb2.SUPPORT_JUDGE_WORDS,
            "withheld": True,
            "text": "abc",
        }
    ],
    "quotes": [{"end": 3, "found": True, "span": {"marker": 1}}],
    "unresolved_markers": [7],
    "stages": [{"stage": "retrieve", "seconds": 0.5, "budget_seconds": 2.0, "decision": "3 passages"}],
    "prompt_format": "numbered-sources-1",
}


def ranked(**options):
    return {"type": "file_search", "vector_store_ids": ["v"], "ranking_options": options}


def created(**body):
    raw = json.dumps({"model": "base", "input": "Hello", **body}).encode()
    return requests.create(requests.read(Asked(raw)), "00000000-0000-0000-0000-000000000001")


def refused(**body):
    with pytest.raises(Failure) as failure:
        created(**body)
    return failure.value.reason.name, failure.value.variables["field"]


def test_names_and_places_change_and_meaning_does_not():
    request = created(
        input=[
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "How"}]},
            {"type": "file_search_call", "id": "fs_1", "queries": ["How"], "status": "completed", "results": None},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "So", "annotations": [{"type": "file_citation"}]}],
            },
            {"role": "user", "content": "And?"},
        ],
        instructions="Answer.",
        previous_response_id="resp_1",
        max_output_tokens=5,
        temperature=0.5,
        metadata={"a": "b"},
        store=False,
        tools=[{"type": "file_search", "vector_store_ids": ["vs_1"], "max_num_results": 2, "filters": FILTER}],
        tool_choice={"type": "file_search"},
        include=["file_search_call.results"],
        user="anna",
    )
    settings = request.settings
    assert [(item.message.role, list(item.message.parts)) for item in request.input] == [
        (chat_pb2.CHAT_ROLE_SYSTEM, ["Be brief."]),
        (chat_pb2.CHAT_ROLE_USER, ["How"]),
        (0, []),
        (chat_pb2.CHAT_ROLE_ASSISTANT, ["So"]),
        (chat_pb2.CHAT_ROLE_USER, ["And?"]),
    ]
    assert (settings.instructions, settings.previous_response, settings.sticky_key) == ("Answer.", "resp_1", "anna")
    assert (settings.sampling.max_tokens, settings.sampling.temperature, settings.store) == (5, 0.5, False)
    assert (list(settings.file_search.vector_stores), settings.file_search.max_num_results) == (["vs_1"], 2)
    assert settings.tool_choice == pb.RESPONSE_TOOL_CHOICE_REQUIRED
    assert request.include_results
    assert told(settings.file_search.filter) == FILTER


def test_what_asks_for_nothing_is_let_pass_and_what_is_not_stated_is_kept():
    plain = created()
    idle = created(
        background=False,
        truncation="disabled",
        service_tier="auto",
        parallel_tool_calls=True,
        reasoning=None,
        tools=[],
        text={"format": {"type": "text"}, "verbosity": "medium"},
    )
    assert json_format.MessageToDict(idle) == json_format.MessageToDict(plain)
    assert plain.settings.store


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "function", "name": "f", "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [ranked(colour=1)]}, RANKING + ".colour"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"], "colour": 1}]}, "tools[0].colour"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tool_choice": {"type": "auto"}}, "tool_choice"),
        ({"maxTokens": 3}, "maxTokens"),
        (
            {"tool_choice": {"type": "function", "name": "f", "x": 1}, "tools": [{"type": "function", "name": "f"}]},
            "tool_choice.x",
        ),
        (
            {
                "tool_choice": {"type": "file_search", "x": 1},
                "tools": [{"type": "file_search", "vector_store_ids": ["v"]}],
            },
            "tool_choice.x",
        ),
        ({"text": {"format": {"type": "json_object", "schema": {}}}}, "text.format.schema"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "description": "x"}}},
            "text.format.description",
        ),
        ({"input": [{"type": "computer_call", "call_id": "c"}]}, "input[0]"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "x": 1}]}, "input[0].x"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": "x", "colour": 1}]}, "input[0].colour"),
        ({"trivium": {"colour": 1}}, "trivium.colour"),
        ({"trivium": {"collections": ["c"]}}, "trivium.collections"),
        ({"trivium": {"top_k": 3}}, "trivium.top_k"),
        ({"trivium": {"regex": "x", "grammar": "y"}}, "trivium.grammar"),
        ({"trivium": {"regex": "x"}, "text": {"format": {"type": "json_object"}}}, "text.format"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(body, field):
    assert refused(**body) == ("PARAMETER_UNSUPPORTED", field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].vector_store_ids"),
        ({"tools": [ranked(hybrid_search={"embedding_weight": 0, "text_weight": 0})]}, RANKING + ".hybrid_search"),
        (
            {"tools": [{"type": "file_search", "vector_store_ids": ["v"], "max_num_results": 0}]},
            "tools[0].max_num_results",
        ),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        ({"tool_choice": {"type": "file_search"}, "tools": [{"type": "function", "name": "f"}]}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 1}]}, "input[0].output"),
        ({"input": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]}, "input[0].content[0]"),
        ({"trivium": {"abstention": "never"}}, "trivium.abstention"),
    ],
)
def test_what_is_wrong_is_told_by_name(body, field):
    assert refused(**body) == ("FIELD_INVALID", field)


def test_a_filter_that_is_nested_too_deep_is_refused():
    deep = {"type": "eq", "key": "a", "value": 1}
    for _ in range(20):
        deep = {"type": "and", "filters": [deep]}
    search = {"type": "file_search", "vector_store_ids": ["v"], "filters": deep}
    assert refused(tools=[search]) == ("FIELD_INVALID", "filters")


def test_an_event_bears_its_type_as_its_name_and_in_its_data():
    message = pb.CreateResponseResponse(
        sequence_number=3, text_delta=pb.OutputText(output_index=1, item="m", text="né")
    )
    name, data, *rest = rendering.event(message, results=False).decode().split("\n")
    assert (name, rest) == ("event: response.output_text.delta", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "response.output_text.delta",
        "item_id": "m",
        "output_index": 1,
        "content_index": 0,
        "delta": "né",
        "logprobs": [],
        "sequence_number": 3,
    }


def test_passages_are_told_only_where_they_are_wanted():
    call = pb.FileSearchCall(queries=["q"], results=[pb.FileSearchResult(file="f", text="t")])
    item = pb.ResponseItem(item="fs", file_search_call=call)
    assert rendering.item(item)["results"] is None
    assert [it["text"] for it in rendering.item(item, results=True)["results"]] == ["t"]


def test_a_response_in_every_state_is_what_the_document_and_the_client_say():
    sampling = chat_pb2.Sampling(max_tokens=5)
    settings = PB.ResponseSettings(model="m", file_search={"vector_stores": ["v"], "max_num_results": 2}, store=True)
    settings.sampling.CopyFrom(sampling)
    settings.structured_output.json_schema = '{"type": "object"}'
    for status in pb.ResponseStatus.values()[1:]:
        message = PB.Response(
            response="r",
            status=status,
            settings=settings,
            output=[SEARCH, ANSWER, REFUSAL, CALL, RETURNED],
            error={"reason": "OVERLOADED", "message": "x"} if status == pb.RESPONSE_STATUS_FAILED else None,
            usage={"prompt_tokens": 3},
            receipt={"request_id": "r"},
            timings=[{"stage": "prefill", "seconds": 0.5}],
            fallbacks=[{"stage": "route", "instead": "base", "reason": "x"}],
            **GROUNDS,
        )
        shown = json.dumps(rendering.response(message, results=True))
        ResponseShown.model_validate_json(shown)
        # The client reads it as it comes; whoever holds it to the client's own types finds nothing missing.
        openai.types.responses.Response.model_validate_json(shown)
    ResponseShown.model_validate_json(json.dumps(rendering.response(PB.Response(status=1), results=False)))


def test_every_event_is_what_the_document_says():
    text = pb.OutputText(output_index=1, item="m", text="a [1]", citations=[CITATION])
    item = pb.OutputItem(item=ANSWER)
    told = {
        **dict.fromkeys(("created", "in_progress", "completed", "incomplete", "failed"), pb.Response()),
        **dict.fromkeys(("item_added", "item_done"), item),
        **dict.fromkeys(("part_added", "text_delta", "text_done", "part_done"), text),
        "file_search": pb.FileSearchProgress(phase=pb.FILE_SEARCH_PHASE_SEARCHING, item="fs"),
        **dict.fromkeys(("arguments_delta", "arguments_done"), pb.CallArguments(item="fc", arguments="{")),
        "citation_added": pb.OutputCitation(item="m", citation=CITATION),
    }
    assert set(told) == {field.name for field in pb.CreateResponseResponse.DESCRIPTOR.oneofs_by_name["event"].fields}
    for name, message in told.items():
        lines = rendering.event(PB.CreateResponseResponse(**{name: message}), results=False).decode().split("\n")
        ResponseStreamed.model_validate_json(lines[1].removeprefix("data: "))


def test_items_of_an_input_are_what_the_document_says():
    items = [rendering.item(it, results=True) for it in (SEARCH, ANSWER, REFUSAL, CALL, RETURNED)]
    ItemsShown.model_validate(queries.page(items, has_more=False))


@pytest.mark.parametrize(
    ("said", "told", "choice"),
    [
        (None, "auto", chat_pb2.TOOL_CHOICE_AUTO),
        ("required", "required", chat_pb2.TOOL_CHOICE_REQUIRED),
        ("none", "none", chat_pb2.TOOL_CHOICE_NONE),
        ({"type": "function", "name": "weather"}, {"type": "function", "name": "weather"}, chat_pb2.TOOL_CHOICE_NAMED),
    ],
)
def test_functions_are_offered_and_told_again_as_they_were_given(said, told, choice):
    settings = created(tools=[FUNCTION], tool_choice=said).settings
    (function,) = settings.tool_use.tools
    assert (function.name, json.loads(function.parameters), function.strict) == (
        "weather",
        FUNCTION["parameters"],
        True,
    )
    assert (settings.tool_use.choice, settings.tool_choice, settings.tool_use.single) == (choice, 0, False)
    shown = rendering.response(pb.Response(status=pb.RESPONSE_STATUS_COMPLETED, settings=settings), results=False)
    assert (shown["tools"], shown["tool_choice"], shown["parallel_tool_calls"]) == ([FUNCTION], told, True)
    ResponseShown.model_validate_json(json.dumps(shown))


def test_one_call_at_a_time_is_asked_for_where_functions_are():
    assert created(tools=[FUNCTION], parallel_tool_calls=False).settings.tool_use.single
    assert not created(parallel_tool_calls=False).settings.HasField("tool_use")


def test_calls_and_what_they_returned_are_sent_back_as_items():
    items = created(
        input=[
            {"role": "user", "content": "Weather?"},
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "c",
                "name": "f",
                "arguments": "{}",
                "status": "completed",
            },
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "fog"}]},
        ]
    ).input
    assert (items[1].function_call, items[2].function_call_output) == (
        CALL.function_call,
        RETURNED.function_call_output,
    )
    assert rendering.item(RETURNED)["output"] == "fog"


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("settings.tool_use.tools[1].name", "tools[1].name"),
        ("tool_use.tools[0].parameters", "tools[0].parameters"),
        ("tool_use.name", "tool_choice.name"),
        ("settings.tool_use.tools", "tools"),
        ("settings.abstention", "trivium.abstention"),
        ("settings.as_readers[0]", "trivium.as_readers"),
        ("unsupported", "trivium.unsupported"),
        ("settings.file_search", "tools[0]"),
    ],
)
def test_a_function_or_field_at_fault_is_told_by_its_place_in_the_request(field, param):
    failure = Failure(Reason.FIELD_INVALID, field=field, problem="is wrong")
    body = of_status(to_status(failure, correlation_id="c"), "r", dict(SENT)).body
    assert json.loads(body)["error"]["param"] == param


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"ranker": "none", "score_threshold": 0.25}, {"ranker": "none", "score_threshold": 0.25}),
        # What OpenAI's clients call the one that there is.
        ({"ranker": "default-2024-11-15"}, {"ranker": "auto", "score_threshold": 0.0}),
        ({"ranker": "auto"}, {"ranker": "auto", "score_threshold": 0.0}),
        ({"ranker": "mine@prod"}, {"ranker": "mine@prod", "score_threshold": 0.0}),
        (
            {"hybrid_search": {"embedding_weight": 3, "text_weight": 1}},
            {
                "ranker": "auto",
                "score_threshold": 0.0,
                "hybrid_search": {"embedding_weight": 0.75, "text_weight": 0.25},
            },
        ),
    ],
)
def test_how_passages_are_ranked_is_asked_for_and_told_again(said, told):
    settings = created(tools=[ranked(**said)]).settings
    shown = rendering.response(pb.Response(status=pb.RESPONSE_STATUS_COMPLETED, settings=settings), results=False)
    assert shown["tools"][0]["ranking_options"] == told
    ResponseShown.model_validate_json(json.dumps(shown))
    assert to_settings(of_settings(settings)).file_search == settings.file_search
