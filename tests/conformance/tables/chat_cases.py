"""Cases of chats, questions with sources, continuations and functions: over an engine and a simulated generator."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance.runner import Case, Rejection
from tests.conformance.tables.chat import Answer

Check = Callable[[Answer], bool]
CAPITAL = (("user", "What is the capital of Japan?"),)
_FRANCE = "The capital of France is"
# As many as the answer about Japan has, and its end.
_SHORT = {"max_tokens": 8}
_INVALID, _FIELD, _TOO_LONG = Rejection("request_invalid"), Rejection("field_invalid"), Rejection("prompt_too_long")


def _chat(name: str, expected: Check | Rejection, sampling: Mapping[str, Any] = _SHORT, **more: Any) -> Case:
    return Case(name, "chat", {"messages": CAPITAL, "sampling": sampling, **more}, expected)


def _complete(name: str, expected: Check | Rejection, sampling: Mapping[str, Any], **more: Any) -> Case:
    return Case(name, "complete", {"sampling": sampling, **more}, expected)


def engine_cases(collection: str, model: str, version: str, mark: str) -> list[Case]:
    """Return the cases over an engine, a collection with the ferry's fares and a model whose alias prod serves ``version``.

    Every token of that version is the word ``mark`` (``tests.load.marked``), by far: what processors make of the last
    bits does not change its answers.
    """
    return [
        *_sampled(),
        *_shaped(),
        *_named(model, version, mark),
        *_with_sources(collection, model, version, mark),
        *_abstaining(collection),
        *_continued(model, version, mark),
    ]


def _sampled() -> list[Case]:
    def several(it: Answer) -> bool:
        return (
            len({it.text, *(text for text, _ in it.others)}) == 3
            # Only the first answer has log probabilities.
            and len(it.logprobs) > 1
            and it.text.startswith("".join(token for token, _ in it.logprobs[:-1]))
        )

    def ends(finish: str, tokens: int) -> Check:
        return lambda it: (it.finish, it.usage[1]) == (finish, tokens)

    # A token that is sure to come, and ends the answer.
    sure = {"max_tokens": 9, "logit_bias": {300: 100}, "stop_token_ids": [300]}
    return [
        _chat(
            "the base answers greedily and names itself",
            lambda it: "Tokyo" in it.text and it.resolved == "base" and it.version == "",
        ),
        _chat("a limit ends the answer and says so", ends("length", 1), {"max_tokens": 1}),
        _chat(
            "a stop text ends the answer and is left out",
            lambda it: it.finish == "stop" and "Japan" not in it.text,
            {"max_tokens": 30, "stop": ["Japan"]},
        ),
        _chat(
            # Each transport asks it again; so hot, two draws differ but for their seed.
            "a seed makes chance repeatable",
            lambda it: it.sampling["temperature"] == 1.5,
            {**_SHORT, "temperature": 1.5, "top_p": 0.9, "seed": 11},
        ),
        _chat(
            "several answers to one prompt differ, each with its own end",
            several,
            {**_SHORT, "temperature": 1.5, "seed": 4, "n": 3, "logprobs": 1},
        ),
        _chat("several answers without chance are refused", _FIELD, {**_SHORT, "temperature": 0.0, "n": 2}),
        _chat("more answers than there may be are refused", _INVALID, {**_SHORT, "temperature": 1.0, "n": 17}),
        _chat("a token that is sure to come ends the answer where it may", ends("stop", 1), sure),
        _chat("an answer has the fewest tokens that it must have", ends("stop", 5), {**sure, "min_tokens": 4}),
        _chat(
            "an answer that ignores the model's end goes on to its limit",
            ends("length", 20),
            {"max_tokens": 20, "ignore_eos": True, "min_p": 0.1},
        ),
        _chat("a token that no model has is refused", _FIELD, {**_SHORT, "stop_token_ids": [10_000_000]}),
        _chat("more tokens at least than at most are refused", _FIELD, {**_SHORT, "min_tokens": 9}),
        _chat(
            "probabilities come with their tokens",
            lambda it: len(it.logprobs) == 3 and all(value <= 0 for _, value in it.logprobs),
            {"max_tokens": 3, "logprobs": 2},
        ),
        _chat("a temperature out of bounds is refused", _INVALID, {"temperature": 2.5}),
        _chat("a prompt beyond the window is refused", _TOO_LONG, {}, messages=(("user", "ferry " * 20_000),)),
    ]


_SCHEMA = '{"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}'


def _shaped() -> list[Case]:
    return [
        _chat(
            "a schema shapes the answer",
            lambda it: json.loads(it.text)["city"] in ("Paris", "Rome"),
            {"max_tokens": 40},
            schema=_SCHEMA,
        ),
        _chat("a choice is one of its texts", lambda it: it.text in ("yes", "no"), choice=("yes", "no")),
        _chat(
            "a model whose template has no tools says so", Rejection("tools_unsupported"), {}, tools=(("weather", ""),)
        ),
    ]


# So many answers and tokens of each, by chance.
_PAIR = {"max_tokens": 2, "temperature": 1.0, "seed": 4, "n": 2, "logprobs": 1}


def _marked_pair(version: str, mark: str) -> Check:
    """Return a check of two answers that no other weights made, with probabilities."""
    return lambda it: (
        it.version == version
        and [it.text, *(text for text, _ in it.others)] == [mark * 2] * 2
        and [token for token, _ in it.logprobs] == [mark] * 2
    )


def _named(model: str, version: str, mark: str) -> list[Case]:
    full, marked = f"{model}@{version}", mark * _SHORT["max_tokens"]
    ferry = (("user", "What does a day ticket for the ferry cost?"),)
    return [
        _chat(
            "several answers of an adapter have probabilities and one prompt's cost",
            _marked_pair(version, mark),
            _PAIR,
            model=model,
        ),
        _chat(
            "an adapter's name means the version that its alias serves",
            lambda it: (it.version, it.resolved, it.text) == (version, full, marked),
            model=model,
        ),
        _chat("an adapter may be named by version", lambda it: (it.version, it.text) == (version, marked), model=full),
        _chat("an unknown model is not found", Rejection("model_not_found"), {}, model=f"{model}x"),
        _chat(
            "auto means the adapter whose examples a question is like, and says so",
            lambda it: (it.requested, it.resolved, it.version, it.text) == ("auto", full, version, marked),
            messages=ferry,
            model="auto",
        ),
        _chat(
            "auto means the base for a question that no adapter is for",
            lambda it: (it.requested, it.resolved, it.version) == ("auto", "base", ""),
            model="auto",
        ),
    ]


def _ask(name: str, collection: str, question: str, expected: Check | Rejection, **more: Any) -> Case:
    history = more.pop("history", ())
    return Case(
        name, "ask", {"messages": (*history, ("user", question)), "collections": (collection,), **more}, expected
    )


def _with_sources(collection: str, model: str, version: str, mark: str) -> list[Case]:
    question, short = "How much is a day ticket for an adult?", {"sampling": _SHORT}
    earlier = (("system", "Be brief."), ("user", "Hello"), ("assistant", "Hello."))
    withheld = {"release": "sentence", "unsupported": "withhold", "explain": True}
    stages = {"resolve", "retrieve", "decide", "prompt", "generate", "verify"}
    return [
        _ask(
            "several answers with sources are refused",
            collection,
            question,
            _FIELD,
            sampling={**_SHORT, "temperature": 1.0, "n": 2},
        ),
        _ask(
            "sources come first and the one that answers is among them",
            collection,
            question,
            lambda it: any("fares" in source[1] for source in it.sources),
            **short,
        ),
        _ask(
            "as many sources as asked for, and earlier turns stay",
            collection,
            question,
            lambda it: len(it.sources) == 1,
            history=earlier,
            top_k=1,
            **short,
        ),
        _ask(
            "an adapter answers from sources",
            collection,
            question,
            lambda it: (it.version, len(it.sources), it.text) == (version, 2, mark * _SHORT["max_tokens"]),
            model=model,
            top_k=2,
            **short,
        ),
        _ask(
            "sentences that no source supports are withheld and told, and every stage is explained",
            collection,
            question,
            lambda it: (
                it.text == ""
                and [verdict[2:] for verdict in it.verdicts] == [("unsupported", None, True)]
                and stages <= set(it.explained)
            ),
            model=model,
            trivium=withheld,
            **short,
        ),
        _ask("an unknown collection is not found", "no-such-collection", question, Rejection("collection_not_found")),
        _ask("an empty question is refused", collection, "  ", Rejection("question_empty")),
    ]


def _abstaining(collection: str) -> list[Case]:
    elsewhere, strict = "Which players won the chess championship of 1987?", {"trivium": {"abstention": "strict"}}
    return [
        _ask(
            "a question that the sources do not answer is refused where that is wanted, with the nearest passages",
            collection,
            elsewhere,
            lambda it: (
                "not in the sources" in it.text
                and it.abstention[1]
                and it.usage == (0, 0)
                and len(it.citations) == len(it.sources) > 0
            ),
            **strict,
        ),
        _ask(
            "an answer that was to have a shape is refused without a text",
            collection,
            elsewhere,
            lambda it: it.text == "" and "not in the sources" in it.abstention[3],
            schema=_SCHEMA,
            **strict,
        ),
        _ask(
            "an answer to such a question begins by saying so, and without the rule is as ever",
            collection,
            elsewhere,
            lambda it: it.text.startswith("The sources may not hold the answer. ") and it.abstention[2],
            sampling=_SHORT,
        ),
        _ask(
            "how many documents there are is counted by the index",
            collection,
            "How many documents mention fog?",
            lambda it: it.path == "index" and "1 of the 3 documents" in it.text and "[1]" in it.text,
        ),
    ]


def _continued(model: str, version: str, mark: str) -> list[Case]:
    return [
        _complete(
            "the base continues a text and names itself",
            lambda it: "Paris" in it.text and (it.resolved, it.finish) == ("base", "length"),
            {"max_tokens": 4},
            prompt=_FRANCE,
        ),
        _complete(
            "a continuation ends where it may and leaves that out",
            lambda it: it.finish == "stop" and "Paris" not in it.text,
            {"max_tokens": 9, "stop": ["Paris"]},
            prompt=_FRANCE,
        ),
        _complete(
            "several continuations by an adapter have probabilities and one prompt's cost",
            _marked_pair(version, mark),
            _PAIR,
            prompt=_FRANCE,
            model=model,
        ),
        _complete("a text beyond the window is not continued", _TOO_LONG, {}, prompt="ferry " * 20_000),
    ]


_WEATHER = ("weather", json.dumps({"type": "object", "properties": {"city": {"enum": ["Zug", "Chur"]}}}))
_WORDS = " word word word"


def simulated_cases() -> list[Case]:
    """Return the cases of functions, and of texts that are continued, over a generator that is no engine.

    It says as many words as it may, and calls the function that it must, or whose name the user says
    (``tests.simulated_generator``).
    """
    tools, limit = (_WEATHER, ("time", "")), {"max_tokens": 3}
    asked, hello = (("user", "How is the weather in Zug?"),), (("user", "Hello"),)
    called = (*asked, ("call", "weather"), ("tool", "Fog."))
    ferry = "The ferry"

    def case(name: str, expected: Check | Rejection, sampling: Mapping[str, Any] | None = None, **more: Any) -> Case:
        return _chat(name, expected, sampling or {}, **{"messages": asked, "tools": tools, **more})

    def calls(name: str, arguments: str) -> Check:
        return lambda it: (it.calls, it.text, it.finish) == (((name, arguments),), "", "tool_calls")

    def words(finish: str = "length") -> Check:
        return lambda it: (it.text, it.calls, it.finish) == (_WORDS, (), finish)

    weather = calls("weather", '{"city": "Zug"}')
    return [
        case("a function is called with arguments of its schema", weather, tool_choice="weather"),
        case("one that takes nothing is called with nothing", calls("time", "{}"), tool_choice="time"),
        case("some function must be called", weather, messages=hello, tool_choice="required"),
        case("a function may be called", weather),
        case("so it may where that is said", lambda it: bool(it.calls), tool_choice="auto"),
        case("functions may be left alone", words(), limit, messages=hello),
        case("functions are left alone where that is said", words(), limit, tool_choice="none"),
        case("what a function returned is gone on from", words("stop"), limit, messages=called),
        case("a function by no name is refused", _INVALID, tools=(("a b", ""),)),
        _complete(
            "a text is continued to its limit",
            lambda it: words()(it) and (it.usage, it.resolved) == ((7, 3), "base"),
            limit,
            prompt=ferry,
        ),
        _complete("no tokens at all are refused of a text", _INVALID, {"max_tokens": 0}, prompt=ferry),
        _complete(
            "a model that there is not continues no text",
            Rejection("model_not_found"),
            {},
            prompt=ferry,
            model="nobodys",
        ),
    ]
