"""Responses over both transports."""

from collections.abc import Mapping
from typing import Any

from trivium.gateway.v1 import responses_pb2

from tests.conformance.runner import (
    Arguments,
    Case,
    Operation,
    Rejection,
    by_transport,
    deleted,
    one,
    page,
    record,
    word,
)
from tests.conformance.tables.stock import Stock

_TOKENS = 2


def _settings(arguments: Arguments) -> dict[str, Any]:
    """Return gRPC's settings: ``trivium`` has what HTTP has under that name."""
    trivium = {name: value for name, value in arguments.get("trivium", {}).items() if name != "fallbacks"}
    search = {"file_search": {"vector_stores": [arguments["store"]]}} if "store" in arguments else {}
    tools = {"tool_use": {"tools": [{"name": arguments["function"]}]}} if "function" in arguments else {}
    fallbacks = {"no_fallbacks": not arguments.get("trivium", {}).get("fallbacks", True)}
    names = {"model": arguments.get("model", "base"), "previous_response": arguments.get("previous", "")}
    return {**names, **search, **tools, **fallbacks, **trivium}


def _tools(arguments: Arguments) -> list[dict[str, Any]]:
    search = [{"type": "file_search", "vector_store_ids": [arguments["store"]]}] if "store" in arguments else []
    return search + ([{"type": "function", "name": arguments["function"]}] if "function" in arguments else [])


def _turn(arguments: Arguments) -> list[dict[str, Any]]:
    return [{"message": {"role": "user", "parts": [arguments["text"]]}}]


def _message(arguments: Arguments) -> dict[str, Any]:
    settings = {
        **_settings(arguments),
        "store": False,
        "sampling": {"max_tokens": arguments.get("most_tokens", _TOKENS)},
    }
    return {"settings": settings, "input": _turn(arguments), "include_results": True}


def _http_counted(arguments: Arguments) -> dict[str, Any]:
    body = {"model": arguments.get("model", "base"), "input": arguments["text"], "tools": _tools(arguments)}
    return {"json": body | {"previous_response_id": arguments.get("previous")}}


def _http(arguments: Arguments) -> dict[str, Any]:
    made = {
        "store": False,
        "max_output_tokens": arguments.get("most_tokens", _TOKENS),
        "include": ["file_search_call.results"],
        "trivium": arguments.get("trivium", {}),
    }
    return {"json": _http_counted(arguments)["json"] | made}


def _item_of_message(it: responses_pb2.ResponseItem) -> Any:
    kind, status = it.WhichOneof("kind"), word(it, "status")
    if kind == "file_search_call":
        hits = [(hit.file, hit.filename, hit.text) for hit in it.file_search_call.results]
        return kind, status, list(it.file_search_call.queries), hits
    if kind == "function_call":
        return kind, status, it.function_call.name, it.function_call.arguments
    return "message", status, "".join(it.message.parts), len(it.message.citations)


def _item_of_json(it: Mapping[str, Any]) -> Any:
    if it["type"] == "file_search_call":
        hits = [(hit["file_id"], hit["filename"], hit["text"]) for hit in it["results"] or ()]
        return it["type"], it["status"], it["queries"], hits
    if it["type"] == "function_call":
        return it["type"], it["status"], it["name"], it["arguments"]
    text = "".join(part["text"] for part in it["content"])
    return it["type"], it["status"], text, sum(len(part.get("annotations", ())) for part in it["content"])


_item = by_transport(_item_of_message, _item_of_json)


def _response(it: Any) -> Any:
    usage = ("usage.prompt_tokens=usage.input_tokens", "usage.completion_tokens=usage.output_tokens")
    output, status, *spent = record("output", "status", *usage)(it)
    grounds = _grounds(it["trivium"] if isinstance(it, Mapping) else it)
    return [_item(item) for item in output], tuple(spent), status == "completed", grounds


_sentence = record("start", "end", "verdict", "withheld")
_stage = record("stage", "input_size")
_fallback = record("stage", "instead")
_rewritten = by_transport(
    lambda it: it.rewrite.rewritten if it.HasField("rewrite") else None,
    lambda it: (it.get("rewrite") or {}).get("rewritten"),
)


def _grounds(it: Any) -> dict[str, Any]:
    """Return what a response tells of its answer from sources; times are never the same twice."""
    path, policy, abstained = record("path?", "abstention.policy?", "abstention.abstained?")(it)
    left_out, sentences, stages = (found or [] for found in record("left_out?", "sentences?", "stages?")(it))
    return {
        "path": path,
        "policy": policy,
        "abstained": bool(abstained),
        "rewritten": _rewritten(it),
        "left_out": [record("text")(source) for source in left_out],
        "sentences": [_sentence(one) for one in sentences],
        "stages": [_stage(stage) for stage in stages],
        "fallbacks": [_fallback(fallback) for fallback in record("fallbacks")(it)],
        "prompt_format": record("prompt_format?")(it),
    }


def _last(events: list[Any]) -> Any:
    return _response(events[-1].completed if events[-1].HasField("completed") else events[-1].incomplete)


OPERATIONS: Mapping[str, Operation] = {
    "create_response": Operation(
        "ResponseService.CreateResponse",
        "POST /responses",
        by_transport(_last, _response),
        message=_message,
        http=_http,
    ),
    "count_input_tokens": Operation(
        "ResponseService.CountResponseInputTokens",
        "POST /responses/input_tokens",
        record("input_tokens", "context_tokens=trivium.context_tokens"),
        message=lambda arguments: {"settings": _settings(arguments), "input": _turn(arguments)},
        http=_http_counted,
    ),
    "get_response": Operation(
        "ResponseService.GetResponse",
        "GET /responses/{response}",
        one("response", _response),
        message=lambda arguments: {**arguments, "include_results": True},
        http=lambda _: {"params": {"include[]": "file_search_call.results"}},
    ),
    "list_input_items": Operation(
        "ResponseService.ListResponseInputItems", "GET /responses/{response}/input_items", page("items", _item)
    ),
    "delete_response": Operation("ResponseService.DeleteResponse", "DELETE /responses/{response}", deleted),
    "cancel_response": Operation(
        "ResponseService.CancelResponse", "POST /responses/{response}/cancel", one("response", _response)
    ),
}


def cases(stock: Stock) -> list[Case]:
    """Return the cases, over a store of one passage and a response that is stored with its search and its stages."""
    return [*_plain(stock), *_stored(stock), *_with_sources(stock)]


def _is_message(it: Any) -> bool:
    return bool(it[0][0][0] == "message")


def _plain(stock: Stock) -> list[Case]:
    ask, weather = {"text": "How much is a day ticket?"}, ("function_call", "completed", "weather", "{}")

    def created(name: str, expected: Any, **more: Any) -> Case:
        return Case(name, "create_response", {**ask, **more}, expected)

    def counted(name: str, expected: Any, **more: Any) -> Case:
        return Case(name, "count_input_tokens", {**ask, **more}, expected)

    invalid, field, gone = Rejection("request_invalid"), Rejection("field_invalid"), Rejection("response_not_found")
    return [
        created("an answer is a message", lambda it: [item[0] for item in it[0]] == ["message"] and it[1][1] == 2),
        created("an answer from files tells its search", _searched, store=stock.store),
        created("functions may be left alone", _is_message, function="weather"),
        created(
            "a function that is asked for is called",
            lambda it: it[0] == [weather],
            text="How is the weather?",
            function="weather",
        ),
        created("a function by no name is refused", invalid, function="a b"),
        created("functions beside a search are refused", field, function="f", store=stock.store),
        created("a conversation goes on", lambda it: len(it[0]) == 1, previous=stock.response),
        created("one goes on from nothing", gone, previous="resp_never"),
        created("a store that is not there is refused", Rejection("collection_not_found"), store="vs_never"),
        created("no tokens at all are refused", invalid, most_tokens=200_000),
        counted("a prompt is counted without an answer", (7, 8192)),
        counted("with what was said before", (7, 8192), previous=stock.response),
        counted("no prompt goes on from nothing", gone, previous="x"),
        counted("no model counts it", Rejection("model_not_found"), model="never"),
        counted("a search is not counted", field, store=stock.store),
    ]


def _searched(it: Any) -> bool:
    (search, said), *_ = it
    return search[0] == "file_search_call" and len(search[3]) == 1 and said[0] == "message"


def _stored(stock: Stock) -> list[Case]:
    stored, never = {"response": stock.response}, {"response": "resp_never"}
    gone, question = Rejection("response_not_found"), ("message", "completed", "How much?", 0)
    background = Rejection("response_not_in_background")
    return [
        Case("a stored response is returned again", "get_response", stored, _searched),
        Case(
            "a kept response tells what it told first",
            "get_response",
            stored,
            lambda it: it[3]["path"] == "passages" and len(it[3]["stages"]) > 3,
        ),
        Case("its input items are listed", "list_input_items", stored, ([question], False)),
        Case(
            "a page of too many items is refused",
            "list_input_items",
            {**stored, "limit": 101},
            Rejection("request_invalid"),
        ),
        Case("none runs in the background", "cancel_response", stored, background),
        Case("a missing one cannot be deleted", "delete_response", never, gone),
        Case("a missing response is not found", "get_response", never, gone),
    ]


def _with_sources(stock: Stock) -> list[Case]:
    def case(title: str, expected: Any, *, text: str = "How much is a day ticket?", **more: Any) -> Case:
        own: dict[str, Any] = {name: more.pop(name) for name in ("model", "function", "store") if name in more}
        return Case(title, "create_response", {"text": text, **own, "trivium": more}, expected)

    store, oxygen = stock.store, "Who discovered oxygen?"
    withheld: dict[str, Any] = {"store": store, "unsupported": "withhold", "check_support": False, "rewrite": False}
    field = Rejection("field_invalid")

    def abstained(it: Any) -> bool:
        (_, said), (_, made), _, found = it
        return (found["abstained"], "not in the sources" in said[2], made) == (True, True, 0)

    def explained(it: Any) -> bool:
        stages = [name for name, _ in it[3]["stages"]]
        return {"resolve", "retrieve", "decide", "prompt", "verify"} <= set(stages) and it[3]["policy"] == "hedge"

    def unsupported(it: Any) -> bool:
        return [verdict for *_, verdict, withheld in it[3]["sentences"] if not withheld] == ["unsupported"]

    return [
        case("sentences that no source supports are listed", unsupported, store=store),
        case("stages are not explained unasked", lambda it: it[3]["stages"] == [], store=store),
        case("stages are explained", explained, store=store, explain=True),
        case("an answer that is not there is not made", abstained, text=oxygen, store=store, abstention="strict"),
        case(
            "a policy may be off",
            lambda it: (it[3]["policy"], it[3]["abstained"], it[1][1]) == ("off", False, 2),
            text=oxygen,
            store=store,
            abstention="off",
        ),
        case(
            "unsupported sentences may be withheld",
            lambda it: "word" not in it[0][1][2] and [it[-1] for it in it[3]["sentences"]] == [True],
            release="sentence",
            **withheld,
        ),
        case("what leaves at once is not withheld", field, release="token", **withheld),
        case("documents are counted by the index", lambda it: it[3]["path"] == "index", store=store, path="index"),
        case(
            "another model answers",
            lambda it: it[3]["fallbacks"] == [("route", "base")],
            store=store,
            model="fares",
            fallback="base",
        ),
        case(
            "no other model answers",
            Rejection("alias_not_serving"),
            store=store,
            model="fares",
            fallback="none",
            fallbacks=False,
        ),
        case("a policy of sources needs some", field, text="Hello", abstention="off"),
        case("functions explain no stages", field, text="Hello", function="f", explain=True),
    ]
