"""Models, the routes that their names lead to, receipts and replays over both transports."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance.runner import (
    Arguments,
    Case,
    Operation,
    Rejection,
    as_json,
    by_transport,
    comparable,
    deleted,
    many,
    one,
    record,
    word,
)
from tests.conformance.tables.stock import Stock

_SPAN = ("marker", "collection", "document", "version", "start", "end", "chunk")
_SAME = (
    *("request_id", "requested_model", "resolved_model", "base_digest", "engine", "engine_build", "engine_slot"),
    *("template_digest", "prompt_tokens_digest", "completion_digest"),
)
_spans = record(*_SPAN)
_scores = record("model", "score")
_usage = by_transport(
    lambda it: (it.prompt_tokens, it.completion_tokens, it.cached_prompt_tokens),
    record("prompt_tokens", "completion_tokens", "prompt_tokens_details.cached_tokens"),
)
_model = by_transport(
    lambda it: (it.name, word(it, "kind"), it.version or None, it.base_digest, it.dimensions),
    lambda it: (it["id"], *record("kind", "version", "base_digest")(it["trivium"]), it["trivium"].get("dimensions", 0)),
)
_models = many("models", _model)


def _choice(it: Any) -> Any:
    candidates, *rest = record("candidates", "confidence", "threshold", "abstained", "ambiguous")(it)
    return [_scores(found) for found in candidates], *rest


def _message_route(it: Any) -> dict[str, Any]:
    choice = _choice(it.choice) if it.HasField("choice") else None
    return _route(it) | {"alias": it.alias or None, "auto": choice}


def _json_route(it: Any) -> dict[str, Any]:
    return _route(it) | {"alias": it["alias"], "auto": _choice(it["auto"]) if "auto" in it else None}


def _route(it: Any) -> dict[str, Any]:
    names = ("resolved_model", "reason", "canary", "engines", "model")
    told = dict(zip(names, record(*names)(it), strict=True))
    return told | {"model": _model(told["model"])}


def _receipt(it: Any) -> dict[str, Any]:
    is_json = isinstance(it, Mapping)
    return {
        **dict(zip(_SAME, record(*_SAME)(it), strict=True)),
        "version": it["version"] if is_json else it.version_digest or None,
        "sampling": comparable(it["sampling"] if is_json else as_json(it.sampling)),
        "sources": [_spans(span) for span in record("sources")(it)],
        "usage": _usage(record("usage")(it)),
    }


def _turns(text: str) -> dict[str, Any]:
    return {"model": "base", "messages": [{"role": "user", "content": text}]}


def _http_replay(arguments: Arguments) -> dict[str, Any]:
    return {"json": {"request_id": arguments["request_id"], "request": _turns(arguments["text"])}}


def _replayed(it: Any) -> Any:
    *told, sources = record("verdict", "explanation", "receipt.request_id", "sources")(it)
    return *told, len(sources)


OPERATIONS: Mapping[str, Operation] = {
    "list_models": Operation(
        "GatewayService.ListModels",
        "GET /models",
        by_transport(
            lambda it: (_models(it), list(it.unreachable)),
            lambda it: (_models(it), it.get("trivium", {}).get("unreachable", [])),
        ),
    ),
    "get_model": Operation("ModelService.GetModel", "GET /models/{model}", one("model", _model)),
    "delete_model": Operation("ModelService.DeleteModel", "DELETE /models/{model}", deleted),
    # Over HTTP they are among the models.
    "list_embedding_models": Operation(
        "EmbeddingService.ListEmbeddingModels",
        "GET /models",
        by_transport(
            many("models", record("model", "dimensions")),
            lambda it: [(name, size) for name, kind, *_, size in _models(it) if kind == "encoder"],
        ),
    ),
    "explain_route": Operation(
        "GatewayService.ExplainRoute", "GET /trivium/route", by_transport(_message_route, _json_route)
    ),
    "get_receipt": Operation(
        "GatewayService.GetReceipt", "GET /trivium/receipts/{request_id}", one("receipt", _receipt)
    ),
    "replay_answer": Operation(
        "ReplayService.ReplayAnswer",
        "POST /trivium/replays",
        _replayed,
        message=lambda arguments: {"request_id": arguments["request_id"], "chat": _turns(arguments["text"])},
        http=_http_replay,
    ),
}


def cases(stock: Stock) -> list[Case]:
    """Return the cases."""
    return [*_names(stock), *_routes(stock), *_receipts(stock)]


def _is(*expected: Any) -> Callable[[Any], bool]:
    """Return a check of the first columns."""
    return lambda it: it[: len(expected)] == expected


def _names(stock: Stock) -> list[Case]:
    numbered = f"{stock.model}@{stock.number}"
    never, gone = {"model": "never"}, Rejection("model_not_found")
    encoder = (stock.encoder, "encoder", None, "", 384)

    def listed(told: Any) -> bool:
        models, unreachable = told
        kinds = {name: kind for name, kind, *_ in models}
        found = kinds.get(stock.model), kinds.get(stock.encoder), kinds.get("auto")
        return models[0][:2] == ("base", "base") and found == ("adapter", "encoder", "auto") and unreachable == []

    return [
        Case("names are listed, the base first", "list_models", {}, listed),
        Case("the base is a model", "get_model", {"model": "base"}, _is("base", "base", None)),
        Case("an encoder is one", "get_model", {"model": stock.encoder}, encoder),
        Case(
            "encoders are listed with the length of their vectors", "list_embedding_models", {}, [(stock.encoder, 384)]
        ),
        Case(
            "an alias means what it serves",
            "get_model",
            {"model": stock.model},
            _is(stock.model, "adapter", stock.version),
        ),
        Case("a version means itself", "get_model", {"model": numbered}, _is(numbered, "adapter", stock.version)),
        Case("an unknown name is not found", "get_model", never, gone),
        Case("no tenant may delete the base", "delete_model", {"model": "base"}, Rejection("field_invalid")),
        Case("a name of nothing cannot be deleted", "delete_model", never, gone),
        Case(
            "what is served is not deleted",
            "delete_model",
            {"model": f"{stock.model}@{stock.version}"},
            Rejection("version_in_use"),
        ),
    ]


def _routes(stock: Stock) -> list[Case]:
    version, gone = f"{stock.model}@{stock.version}", Rejection("model_not_found")

    def leads(alias: str | None) -> Callable[[Any], bool]:
        return lambda it: (it["resolved_model"], it["alias"], it["auto"]) == (version, alias, None)

    def chosen(told: Any) -> bool:
        [nearest, *_], confidence, threshold, abstained, _ = told["auto"]
        answered = told["resolved_model"], nearest[0], told["model"][:2], abstained
        return answered == (version, stock.model, ("auto", "auto"), False) and confidence >= threshold

    def abstained(told: Any) -> bool:
        _, confidence, threshold, given_up, _ = told["auto"]
        return (told["resolved_model"], given_up) == ("base", True) and confidence < threshold

    def case(name: str, expected: Any, **arguments: str) -> Case:
        return Case(name, "explain_route", arguments, expected)

    return [
        case("the base leads to its engine", lambda it: len(it["engines"]) == 1, model="base"),
        case("a name leads to what its alias serves", leads("prod"), model=stock.model),
        case("a version leads to itself", leads(None), model=f"{stock.model}@{stock.number}"),
        case("auto leads to the model that is meant", chosen, model="auto", question=stock.meant),
        case("auto leads to the base where none is", abstained, model="auto", question=stock.unmeant),
        case("auto leads to the base without a question", lambda it: it["resolved_model"] == "base", model="auto"),
        case("a name of nothing leads nowhere", gone, model=f"{stock.model}s"),
        case("the deployment's encoder leads nowhere", gone, model=stock.encoder),
        case("no name leads nowhere", Rejection("request_invalid"), model=""),
    ]


def _receipts(stock: Stock) -> list[Case]:
    def kept(told: Any) -> bool:
        made = told["request_id"], told["requested_model"], told["resolved_model"], told["version"], told["usage"]
        return bool(made == (stock.request_id, "base", "base", None, (7, 2, 0)))

    request, never = {"request_id": stock.request_id}, {"request_id": "never"}
    gone, text = Rejection("receipt_not_found"), {"text": "How much?"}
    return [
        Case("a receipt is kept", "get_receipt", request, kept),
        Case("a missing receipt is not found", "get_receipt", never, gone),
        Case("an id beyond all ids is refused", "get_receipt", {"request_id": "x" * 129}, Rejection("request_invalid")),
        Case(
            "an answer is held against its receipt",
            "replay_answer",
            {**request, **text},
            lambda it: it[2] == stock.request_id,
        ),
        Case("a receipt that is not there has no replay", "replay_answer", {**never, **text}, gone),
    ]
