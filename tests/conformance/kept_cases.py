"""What both skins must answer alike of files, batches, embeddings and responses."""

from dataclasses import dataclass

from tests.conformance.gateway_skins import Refused
from tests.conformance.verbs import Case, Told, answers, is_told, refuses


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is: ids of the tenant's, and names."""

    file: str = ""
    batch: str = ""
    store: str = ""
    response: str = ""
    encoder: str = ""


def cases(stock: Stock, content: bytes) -> list[Case]:
    """The cases, over a file of requests with this ``content``, its batch, a store of one passage and a kept response."""
    return [*_files(stock, content), *_batches(stock), *_embeddings(stock), *_responses(stock)]


def _files(stock: Stock, content: bytes) -> list[Case]:
    told = (stock.file, "requests.jsonl", "batch", len(content))
    new = {"content": b"x" * 700_000, "filename": "notes.txt", "purpose": "user_data"}
    return [
        Case("a file is told as it was sent", "file", is_told(told), {"file": stock.file}),
        Case("a file is read to its last byte", "content", is_told(content), {"file": stock.file}),
        Case("a file is stored whole", "upload", is_told(("notes.txt", "user_data", 700_000)), new),
        Case(
            "an empty file is stored",
            "upload",
            is_told(("e", "user_data", 0)),
            {**new, "content": b"", "filename": "e"},
        ),
        Case(
            "files are listed by purpose",
            "files",
            is_told(([stock.file], False)),
            {"purpose": "batch", "limit": 1, "after": ""},
        ),
        Case(
            "a page of too many files is refused",
            "files",
            refuses("request_invalid"),
            {"purpose": "batch", "limit": 10_001, "after": ""},
        ),
        Case("a missing file is told as such", "file", refuses("file_not_found"), {"file": "file-never"}),
        Case("a missing file has no content", "content", refuses("file_not_found"), {"file": "file-never"}),
        Case("a missing file cannot be deleted", "delete_file", refuses("file_not_found"), {"file": "file-never"}),
    ]


def _batches(stock: Stock) -> list[Case]:
    told = (stock.file, "/v1/completions", {"of": "both"}, 24 * 3600)
    order = {"file": stock.file, "metadata": {"of": "both"}}
    return [
        Case("a batch is told as it was ordered", "get_batch", is_told(told), {"batch": stock.batch}),
        Case("a batch is begun over a file", "batch", is_told(told), order),
        Case("a batch needs a file that is there", "batch", refuses("file_not_found"), {**order, "file": "file-never"}),
        Case(
            "too many notes are refused",
            "batch",
            refuses("request_invalid"),
            {**order, "metadata": {str(n): "" for n in range(17)}},
        ),
        Case("batches are listed", "batches", answers(lambda it: stock.batch in it[0]), {"limit": 100}),
        Case("a page of too many batches is refused", "batches", refuses("request_invalid"), {"limit": 101}),
        Case("a missing batch is told as such", "get_batch", refuses("batch_not_found"), {"batch": "batch_never"}),
        Case(
            "a missing batch cannot be cancelled", "cancel_batch", refuses("batch_not_found"), {"batch": "batch_never"}
        ),
    ]


def _embeddings(stock: Stock) -> list[Case]:
    texts = {"texts": ["A day ticket is 9 crowns.", "Fog."], "model": stock.encoder}
    return [
        Case(
            "texts become vectors",
            "embed",
            answers(lambda it: [len(row) for row in it[0]] == [384] * 2 and it[1] > 4),
            texts,
        ),
        Case("an empty text is refused", "embed", refuses("text_empty"), {**texts, "texts": ["x", " "]}),
        Case(
            "an encoder that there is not is refused",
            "embed",
            refuses("embedding_model_not_found"),
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
            answers(lambda it: [item[0] for item in it[0]] == ["message"] and it[1][1] == 2),
            ask,
        ),
        Case("an answer from files tells its search", "respond", answers(searched), {**ask, "store": stock.store}),
        Case(
            "functions may be left alone",
            "respond",
            answers(lambda it: it[0][0][0] == "message"),
            {**ask, "function": "weather"},
        ),
        Case(
            "a function that is asked for is called",
            "respond",
            answers(lambda it: it[0] == [("function_call", "completed", "weather", "{}")]),
            {"text": "How is the weather?", "function": "weather"},
        ),
        Case("a function by no name is refused", "respond", refuses("request_invalid"), {**ask, "function": "a b"}),
        Case(
            "functions beside a search are refused",
            "respond",
            refuses("field_invalid"),
            {**ask, "function": "f", "store": stock.store},
        ),
        Case(
            "a conversation goes on",
            "respond",
            answers(lambda it: len(it[0]) == 1),
            {**ask, "previous": stock.response},
        ),
        Case("one goes on from nothing", "respond", refuses("response_not_found"), {**ask, "previous": "resp_never"}),
        Case(
            "a store that is not there is refused",
            "respond",
            refuses("collection_not_found"),
            {**ask, "store": "vs_never"},
        ),
        Case("no tokens at all are refused", "respond", refuses("request_invalid"), {**ask, "most_tokens": 200_000}),
        *_grounds(stock),
        Case("a kept response is told again", "response", answers(searched), {"response": stock.response}),
        Case(
            "a kept response tells what it told first",
            "response",
            answers(lambda it: it[3]["path"] == "passages" and len(it[3]["stages"]) > 3),
            {"response": stock.response},
        ),
        Case("a prompt is counted without an answer", "input_tokens", is_told((7, 8192)), ask),
        Case("with what was said before", "input_tokens", is_told((7, 8192)), {**ask, "previous": stock.response}),
        Case("no prompt goes on from nothing", "input_tokens", refuses("response_not_found"), {**ask, "previous": "x"}),
        Case("no model counts it", "input_tokens", refuses("model_not_found"), {**ask, "model": "never"}),
        Case("a search is not counted", "input_tokens", refuses("field_invalid"), {**ask, "store": stock.store}),
        Case(
            "what it was asked is told",
            "input_items",
            is_told(([("message", "completed", "How much?", 0)], False)),
            {"response": stock.response},
        ),
        Case(
            "a page of too many items is refused",
            "input_items",
            refuses("request_invalid"),
            {"response": stock.response, "limit": 101},
        ),
        Case(
            "none runs in the background",
            "cancel_response",
            refuses("response_not_in_background"),
            {"response": stock.response},
        ),
        Case(
            "a missing one cannot be deleted",
            "delete_response",
            refuses("response_not_found"),
            {"response": "resp_never"},
        ),
        Case("a missing one is told as such", "response", refuses("response_not_found"), {"response": "resp_never"}),
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
        Case("sentences that no source supports are told", "respond", answers(unsupported), ask),
        Case("stages are not explained unasked", "respond", answers(lambda it: it[3]["stages"] == []), ask),
        Case("stages are explained", "respond", answers(explained), {**ask, "manner": {"explain": True}}),
        Case("an answer that is not there is not made", "respond", answers(abstained), strict),
        Case(
            "a policy may be off",
            "respond",
            answers(lambda it: (it[3]["policy"], it[3]["abstained"], it[1][1]) == ("off", False, 2)),
            {**strict, "manner": {"abstention": "off"}},
        ),
        Case(
            "unsupported sentences may be withheld",
            "respond",
            answers(lambda it: "word" not in it[0][1][2] and [it[-1] for it in it[3]["sentences"]] == [True]),
            {**ask, "manner": withheld},
        ),
        Case(
            "what leaves at once is not withheld",
            "respond",
            refuses("field_invalid"),
            {**ask, "manner": {**withheld, "release": "token"}},
        ),
        Case(
            "documents are counted by the index",
            "respond",
            answers(lambda it: it[3]["path"] == "index"),
            {**ask, "manner": {"path": "index"}},
        ),
        Case("another model answers", "respond", answers(fell_back), {**ask, "model": "fares", "manner": fallback}),
        Case(
            "no other model answers",
            "respond",
            refuses("alias_not_serving"),
            {**ask, "model": "fares", "manner": {"fallback": "none", "fallbacks": False}},
        ),
        Case(
            "a policy of sources needs some",
            "respond",
            refuses("field_invalid"),
            {"text": "Hello", "manner": {"abstention": "off"}},
        ),
        Case(
            "functions explain no stages",
            "respond",
            refuses("field_invalid"),
            {"text": "Hello", "function": "f", "manner": {"explain": True}},
        ),
    ]
