"""What both skins must answer alike of files, batches, embeddings, responses, replays and models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.gateway_skins import Refused
from tests.conformance.kept_skins import Told


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is: ids of the tenant's, and names."""

    file: str = ""
    batch: str = ""
    store: str = ""
    response: str = ""
    request_id: str = ""
    encoder: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A request by a name that reads, and a check of the answer that either skin gave."""

    says: str
    verb: str
    holds: Callable[[Told | Refused], bool]
    fields: Mapping[str, Any] = field(default_factory=dict)


def _refuses(reason: str) -> Callable[[Told | Refused], bool]:
    return lambda outcome: outcome == Refused(reason)


def _is(told: Told) -> Callable[[Told | Refused], bool]:
    return lambda outcome: outcome == told


def _answers(check: Callable[[Told], bool]) -> Callable[[Told | Refused], bool]:
    return lambda outcome: not isinstance(outcome, Refused) and check(outcome)


def cases(stock: Stock, content: bytes) -> list[Case]:
    """The cases, over a file of requests with this ``content``, its batch, a store of one passage and a kept response."""
    return [*_files(stock, content), *_batches(stock), *_embeddings(stock), *_responses(stock), *_others(stock)]


def _files(stock: Stock, content: bytes) -> list[Case]:
    told = (stock.file, "requests.jsonl", "batch", len(content))
    new = {"content": b"x" * 700_000, "filename": "notes.txt", "purpose": "user_data"}
    return [
        Case("a file is told as it was sent", "file", _is(told), {"file": stock.file}),
        Case("a file is read to its last byte", "content", _is(content), {"file": stock.file}),
        Case("a file is stored whole", "upload", _is(("notes.txt", "user_data", 700_000)), new),
        Case(
            "an empty file is stored",
            "upload",
            _is(("e", "user_data", 0)),
            {**new, "content": b"", "filename": "e"},
        ),
        Case(
            "files are listed by purpose",
            "files",
            _is(([stock.file], False)),
            {"purpose": "batch", "limit": 1, "after": ""},
        ),
        Case(
            "a page of too many files is refused",
            "files",
            _refuses("request_invalid"),
            {"purpose": "batch", "limit": 10_001, "after": ""},
        ),
        Case("a missing file is told as such", "file", _refuses("file_not_found"), {"file": "file-never"}),
        Case("a missing file has no content", "content", _refuses("file_not_found"), {"file": "file-never"}),
        Case("a missing file cannot be deleted", "delete_file", _refuses("file_not_found"), {"file": "file-never"}),
    ]


def _batches(stock: Stock) -> list[Case]:
    told = (stock.file, "/v1/completions", {"of": "both"}, 24 * 3600)
    order = {"file": stock.file, "metadata": {"of": "both"}}
    return [
        Case("a batch is told as it was ordered", "get_batch", _is(told), {"batch": stock.batch}),
        Case("a batch is begun over a file", "batch", _is(told), order),
        Case(
            "a batch needs a file that is there", "batch", _refuses("file_not_found"), {**order, "file": "file-never"}
        ),
        Case(
            "too many notes are refused",
            "batch",
            _refuses("request_invalid"),
            {**order, "metadata": {str(n): "" for n in range(17)}},
        ),
        Case("batches are listed", "batches", _answers(lambda it: stock.batch in it[0]), {"limit": 100}),
        Case("a page of too many batches is refused", "batches", _refuses("request_invalid"), {"limit": 101}),
        Case("a missing batch is told as such", "get_batch", _refuses("batch_not_found"), {"batch": "batch_never"}),
        Case(
            "a missing batch cannot be cancelled", "cancel_batch", _refuses("batch_not_found"), {"batch": "batch_never"}
        ),
    ]


def _embeddings(stock: Stock) -> list[Case]:
    texts = {"texts": ["A day ticket is 9 crowns.", "Fog."], "model": stock.encoder}
    return [
        Case(
            "texts become vectors",
            "embed",
            _answers(lambda it: [len(row) for row in it[0]] == [384] * 2 and it[1] > 4),
            texts,
        ),
        Case("an empty text is refused", "embed", _refuses("text_empty"), {**texts, "texts": ["x", " "]}),
        Case(
            "an encoder that there is not is refused",
            "embed",
            _refuses("embedding_model_not_found"),
            {**texts, "model": "never"},
        ),
        Case(
            "more dimensions than a vector has are refused",
            "embed",
            _refused,
            {**texts, "dimensions": 8000},
        ),
    ]


def _refused(outcome: Told | Refused) -> bool:
    return isinstance(outcome, Refused)


def _responses(stock: Stock) -> list[Case]:
    ask = {"text": "How much is a day ticket?"}

    def searched(it: Told) -> bool:
        (search, said), *_ = it
        return search[0] == "file_search_call" and len(search[3]) == 1 and said[0] == "message"

    return [
        Case(
            "an answer is a message",
            "respond",
            _answers(lambda it: [item[0] for item in it[0]] == ["message"] and it[1][1] == 2),
            ask,
        ),
        Case("an answer from files tells its search", "respond", _answers(searched), {**ask, "store": stock.store}),
        Case(
            "functions may be left alone",
            "respond",
            _answers(lambda it: it[0][0][0] == "message"),
            {**ask, "function": "weather"},
        ),
        Case("a function by no name is refused", "respond", _refuses("request_invalid"), {**ask, "function": "a b"}),
        Case(
            "functions beside a search are refused",
            "respond",
            _refuses("field_invalid"),
            {**ask, "function": "f", "store": stock.store},
        ),
        Case(
            "a conversation goes on",
            "respond",
            _answers(lambda it: len(it[0]) == 1),
            {**ask, "previous": stock.response},
        ),
        Case("one goes on from nothing", "respond", _refuses("response_not_found"), {**ask, "previous": "resp_never"}),
        Case(
            "a store that is not there is refused",
            "respond",
            _refuses("collection_not_found"),
            {**ask, "store": "vs_never"},
        ),
        Case("no tokens at all are refused", "respond", _refuses("request_invalid"), {**ask, "most_tokens": 200_000}),
        *_grounds(stock),
        Case("a kept response is told again", "response", _answers(searched), {"response": stock.response}),
        Case(
            "a kept response tells what it told first",
            "response",
            _answers(lambda it: it[3]["path"] == "passages" and len(it[3]["stages"]) > 3),
            {"response": stock.response},
        ),
        Case("a prompt is counted without an answer", "input_tokens", _is((7, 8192)), ask),
        Case("with what was said before", "input_tokens", _is((7, 8192)), {**ask, "previous": stock.response}),
        Case(
            "no prompt goes on from nothing", "input_tokens", _refuses("response_not_found"), {**ask, "previous": "x"}
        ),
        Case("no model counts it", "input_tokens", _refuses("model_not_found"), {**ask, "model": "never"}),
        Case("a search is not counted", "input_tokens", _refuses("field_invalid"), {**ask, "store": stock.store}),
        Case(
            "what it was asked is told",
            "input_items",
            _is(([("message", "completed", "How much?", 0)], False)),
            {"response": stock.response},
        ),
        Case(
            "a page of too many items is refused",
            "input_items",
            _refuses("request_invalid"),
            {"response": stock.response, "limit": 101},
        ),
        Case(
            "none runs in the background",
            "cancel_response",
            _refuses("response_not_in_background"),
            {"response": stock.response},
        ),
        Case("a missing one is told as such", "response", _refuses("response_not_found"), {"response": "resp_never"}),
    ]


def _grounds(stock: Stock) -> list[Case]:
    ask = {"text": "How much is a day ticket?", "store": stock.store}
    strict = {"text": "Who discovered oxygen?", "store": stock.store, "manner": {"abstention": "strict"}}
    withheld = {"release": "sentence", "unsupported": "withhold", "check_support": False, "rewrite": False}
    fallback = {"fallback": "base"}

    def abstained(it: Told) -> bool:
        (_, said), (_, made), _, found = it
        return (found["abstained"], "not in the sources" in said[2], made) == (True, True, 0)

    def explained(it: Told) -> bool:
        stages = [name for name, _ in it[3]["stages"]]
        return {"resolve", "retrieve", "decide", "prompt", "verify"} <= set(stages) and it[3]["policy"] == "hedge"

    def fell_back(it: Told) -> bool:
        return bool(it[3]["fallbacks"] == [("route", "base")])

    def unsupported(it: Told) -> bool:
        return [verdict for *_, verdict, withheld in it[3]["sentences"] if not withheld] == ["unsupported"]

    return [
        Case("sentences that no source supports are told", "respond", _answers(unsupported), ask),
        Case("stages are not explained unasked", "respond", _answers(lambda it: it[3]["stages"] == []), ask),
        Case("stages are explained", "respond", _answers(explained), {**ask, "manner": {"explain": True}}),
        Case("an answer that is not there is not made", "respond", _answers(abstained), strict),
        Case(
            "a policy may be off",
            "respond",
            _answers(lambda it: (it[3]["policy"], it[3]["abstained"], it[1][1]) == ("off", False, 2)),
            {**strict, "manner": {"abstention": "off"}},
        ),
        Case(
            "unsupported sentences may be withheld",
            "respond",
            _answers(lambda it: "word" not in it[0][1][2] and [it[-1] for it in it[3]["sentences"]] == [True]),
            {**ask, "manner": withheld},
        ),
        Case(
            "what leaves at once is not withheld",
            "respond",
            _refuses("field_invalid"),
            {**ask, "manner": {**withheld, "release": "token"}},
        ),
        Case(
            "documents are counted by the index",
            "respond",
            _answers(lambda it: it[3]["path"] == "index"),
            {**ask, "manner": {"path": "index"}},
        ),
        Case("another model answers", "respond", _answers(fell_back), {**ask, "model": "fares", "manner": fallback}),
        Case(
            "no other model answers",
            "respond",
            _refuses("alias_not_serving"),
            {**ask, "model": "fares", "manner": {"fallback": "none", "fallbacks": False}},
        ),
        Case(
            "a policy of sources needs some",
            "respond",
            _refuses("field_invalid"),
            {"text": "Hello", "manner": {"abstention": "off"}},
        ),
        Case(
            "functions explain no stages",
            "respond",
            _refuses("field_invalid"),
            {"text": "Hello", "function": "f", "manner": {"explain": True}},
        ),
    ]


def _others(stock: Stock) -> list[Case]:
    replay = {"request_id": stock.request_id, "text": "How much?"}
    return [
        Case("an answer is held against its receipt", "replay", _answers(lambda it: it[2] == stock.request_id), replay),
        Case(
            "a receipt that is not there has no replay",
            "replay",
            _refuses("receipt_not_found"),
            {**replay, "request_id": "never"},
        ),
        Case("the base is a model", "model", _answers(lambda it: it[:3] == ("base", "base", None)), {"name": "base"}),
        Case("an encoder is one", "model", _is((stock.encoder, "encoder", None, "", 384)), {"name": stock.encoder}),
        Case(
            "a version is one", "model", _answers(lambda it: it[:2] == (stock.model, "adapter")), {"name": stock.model}
        ),
        Case("a name of nothing is none", "model", _refuses("model_not_found"), {"name": "never"}),
        Case("the base is nobody's to delete", "delete_model", _refuses("field_invalid"), {"name": "base"}),
        Case("a name of nothing cannot be deleted", "delete_model", _refuses("model_not_found"), {"name": "never"}),
    ]
