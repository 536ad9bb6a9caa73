"""What both skins of the gateway must answer alike: each case is one request and what is certain of its answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.gateway_skins import Refused, Told, Wanted

CAPITAL = (("user", "What is the capital of Japan?"),)


@dataclass(frozen=True, slots=True)
class Case:
    """A request by a name that reads, and a check of the answer that either skin gave."""

    says: str
    wanted: Wanted
    holds: Callable[[Told | Refused], bool]


def answers(check: Callable[[Told], bool]) -> Callable[[Told | Refused], bool]:
    """Whether it was answered, and the answer is as the check wants it."""
    return lambda outcome: isinstance(outcome, Told) and check(outcome)


def refuses(reason: str) -> Callable[[Told | Refused], bool]:
    """Whether it was refused for this reason."""
    return lambda outcome: outcome == Refused(reason)


def _marked(text: str, mark: str, tokens: int) -> bool:
    """Whether an answer is so many times the word that the adapter alone says: no other weights made it."""
    return text == mark * tokens


def cases(collection: str, model: str, version: str, mark: str) -> list[Case]:
    """The cases, over a collection with the ferry's fares and a model whose alias prod serves ``version``.

    Every token of that version is the word ``mark`` (``tests.load.marked``), by far: what processors make of the last
    bits does not change its answers.
    """
    question = (("user", "How much is a day ticket for an adult?"),)
    elsewhere = (("user", "Which players won the chess championship of 1987?"),)
    earlier = (("system", "Be brief."), ("user", "Hello"), ("assistant", "Hello."))
    schema = '{"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}'
    # As many as the answer about Japan has, and its end.
    short = {"max_tokens": 8}
    return [
        Case(
            "the base answers greedily and names itself",
            Wanted(CAPITAL, sampling=short),
            answers(lambda told: "Tokyo" in told.text and told.resolved == "base" and told.version == ""),
        ),
        Case(
            "a limit ends the answer and says so",
            Wanted(CAPITAL, sampling={"max_tokens": 1}),
            answers(lambda told: told.finish == "length" and told.usage[1] == 1),
        ),
        Case(
            "a stop text ends the answer and is left out",
            Wanted(CAPITAL, sampling={"max_tokens": 30, "stop": ["Japan"]}),
            answers(lambda told: told.finish == "stop" and "Japan" not in told.text),
        ),
        Case(
            # Each skin asks it again; so hot, two draws differ but for their seed.
            "a seed makes chance repeatable",
            Wanted(CAPITAL, sampling={**short, "temperature": 1.5, "top_p": 0.9, "seed": 11}),
            answers(lambda told: told.sampling["temperature"] == 1.5),
        ),
        Case(
            "several answers to one prompt differ, each with its own end",
            Wanted(CAPITAL, sampling={**short, "temperature": 1.5, "seed": 4, "n": 3, "logprobs": 1}),
            answers(
                lambda told: (
                    len({told.text, *(text for text, _ in told.others)}) == 3
                    # Of the first answer's tokens and no other's.
                    and len(told.logprobs) > 1
                    and told.text.startswith("".join(token for token, _ in told.logprobs[:-1]))
                )
            ),
        ),
        Case(
            "several answers of an adapter have probabilities and one prompt's cost",
            Wanted(
                CAPITAL, model=model, sampling={"max_tokens": 2, "temperature": 1.0, "seed": 4, "n": 2, "logprobs": 1}
            ),
            answers(
                lambda told: (
                    told.version == version
                    and [_marked(text, mark, 2) for text in (told.text, *(text for text, _ in told.others))]
                    == [True] * 2
                    and [token for token, _ in told.logprobs] == [mark] * 2
                )
            ),
        ),
        Case(
            "several answers without chance are refused",
            Wanted(CAPITAL, sampling={**short, "temperature": 0.0, "n": 2}),
            refuses("field_invalid"),
        ),
        Case(
            "more answers than there may be are refused",
            Wanted(CAPITAL, sampling={**short, "temperature": 1.0, "n": 17}),
            refuses("request_invalid"),
        ),
        Case(
            "several answers with sources are refused",
            Wanted(question, collections=(collection,), sampling={**short, "temperature": 1.0, "n": 2}),
            refuses("field_invalid"),
        ),
        Case(
            "a token that is sure to come ends the answer where it may",
            Wanted(CAPITAL, sampling={"max_tokens": 9, "logit_bias": {300: 100}, "stop_token_ids": [300]}),
            answers(lambda told: told.finish == "stop" and told.usage[1] == 1),
        ),
        Case(
            "an answer has the fewest tokens that it must have",
            Wanted(
                CAPITAL,
                sampling={"max_tokens": 9, "min_tokens": 4, "logit_bias": {300: 100}, "stop_token_ids": [300]},
            ),
            answers(lambda told: told.finish == "stop" and told.usage[1] == 5),
        ),
        Case(
            "an answer that ignores the model's end goes on to its limit",
            Wanted(CAPITAL, sampling={"max_tokens": 20, "ignore_eos": True, "min_p": 0.1}),
            answers(lambda told: told.finish == "length" and told.usage[1] == 20),
        ),
        Case(
            "a token that no model has is refused",
            Wanted(CAPITAL, sampling={**short, "stop_token_ids": [10_000_000]}),
            refuses("field_invalid"),
        ),
        Case(
            "more tokens at least than at most are refused",
            Wanted(CAPITAL, sampling={**short, "min_tokens": 9}),
            refuses("field_invalid"),
        ),
        Case(
            "a schema shapes the answer",
            Wanted(CAPITAL, sampling={"max_tokens": 40}, schema=schema),
            answers(lambda told: json.loads(told.text)["city"] in ("Paris", "Rome")),
        ),
        Case(
            "a choice is one of its texts",
            Wanted(CAPITAL, sampling=short, choice=("yes", "no")),
            answers(lambda told: told.text in ("yes", "no")),
        ),
        Case(
            "probabilities come with their tokens",
            Wanted(CAPITAL, sampling={"max_tokens": 3, "logprobs": 2}),
            answers(lambda told: len(told.logprobs) == 3 and all(value <= 0 for _, value in told.logprobs)),
        ),
        Case(
            "an adapter's name means the version that its alias serves",
            Wanted(CAPITAL, model=model, sampling=short),
            answers(
                lambda told: (
                    told.version == version
                    and told.resolved == f"{model}@{version}"
                    and _marked(told.text, mark, short["max_tokens"])
                )
            ),
        ),
        Case(
            "an adapter may be named by version",
            Wanted(CAPITAL, model=f"{model}@{version}", sampling=short),
            answers(lambda told: told.version == version and _marked(told.text, mark, short["max_tokens"])),
        ),
        Case(
            "sources come first and the one that answers is among them",
            Wanted(question, collections=(collection,), sampling=short),
            answers(lambda told: any("fares" in source[1] for source in told.sources)),
        ),
        Case(
            "as many sources as asked for, and earlier turns stay",
            Wanted(earlier + question, collections=(collection,), top_k=1, sampling=short),
            answers(lambda told: len(told.sources) == 1),
        ),
        Case(
            "an adapter answers from sources",
            Wanted(question, model=model, collections=(collection,), top_k=2, sampling=short),
            answers(
                lambda told: (
                    told.version == version and len(told.sources) == 2 and _marked(told.text, mark, short["max_tokens"])
                )
            ),
        ),
        Case(
            "a question that the sources do not answer is refused where that is wanted, with the nearest passages",
            Wanted(elsewhere, collections=(collection,), asking={"abstention": "strict"}),
            answers(
                lambda told: (
                    "not in the sources" in told.text
                    and told.abstention[1]
                    and told.usage == (0, 0)
                    and len(told.citations) == len(told.sources) > 0
                )
            ),
        ),
        Case(
            "an answer that was to have a shape is refused without a text",
            Wanted(elsewhere, collections=(collection,), asking={"abstention": "strict"}, schema=schema),
            answers(lambda told: told.text == "" and "not in the sources" in told.abstention[3]),
        ),
        Case(
            "an answer to such a question begins by saying so, and without the rule is as ever",
            Wanted(elsewhere, collections=(collection,), sampling=short),
            answers(lambda told: told.text.startswith("The sources may not hold the answer. ") and told.abstention[2]),
        ),
        Case(
            "how many documents there are is counted by the index",
            Wanted((("user", "How many documents mention fog?"),), collections=(collection,)),
            answers(lambda told: told.path == "index" and "1 of the 3 documents" in told.text and "[1]" in told.text),
        ),
        Case(
            "sentences that no source supports are withheld and told, and every stage is explained",
            Wanted(
                question,
                model=model,
                collections=(collection,),
                sampling=short,
                asking={"release": "sentence", "unsupported": "withhold", "explain": True},
            ),
            answers(
                lambda told: (
                    told.text == ""
                    and [verdict[2:] for verdict in told.verdicts] == [("unsupported", 0, True)]
                    and {"resolve", "retrieve", "decide", "prompt", "generate", "verify"} <= set(told.explained)
                )
            ),
        ),
        Case("an unknown model is not found", Wanted(CAPITAL, model=f"{model}x"), refuses("model_not_found")),
        Case(
            "an unknown collection is not found",
            Wanted(question, collections=("no-such-collection",)),
            refuses("collection_not_found"),
        ),
        Case(
            "an empty question is refused",
            Wanted((("user", "  "),), collections=(collection,)),
            refuses("question_empty"),
        ),
        Case(
            "auto means the adapter whose examples a question is like, and says so",
            Wanted((("user", "What does a day ticket for the ferry cost?"),), model="auto", sampling=short),
            answers(
                lambda told: (
                    (told.requested, told.resolved, told.version) == ("auto", f"{model}@{version}", version)
                    and _marked(told.text, mark, short["max_tokens"])
                )
            ),
        ),
        Case(
            "auto means the base for a question that no adapter is for",
            Wanted(CAPITAL, model="auto", sampling=short),
            answers(lambda told: (told.requested, told.resolved, told.version) == ("auto", "base", "")),
        ),
        Case(
            "a temperature out of bounds is refused",
            Wanted(CAPITAL, sampling={"temperature": 2.5}),
            refuses("request_invalid"),
        ),
        Case(
            "a prompt beyond the window is refused",
            Wanted((("user", "ferry " * 20_000),)),
            refuses("prompt_too_long"),
        ),
        Case(
            "a model whose template has no tools says so",
            Wanted(CAPITAL, tools=(("weather", ""),)),
            refuses("tools_unsupported"),
        ),
        *_continuations(model, version, mark),
    ]


def _continuations(model: str, version: str, mark: str) -> list[Case]:
    """The same of texts that are continued without a template."""
    france = "The capital of France is"
    return [
        Case(
            "the base continues a text and names itself",
            Wanted(prompt=france, sampling={"max_tokens": 4}),
            answers(lambda told: "Paris" in told.text and (told.resolved, told.finish) == ("base", "length")),
        ),
        Case(
            "a continuation ends where it may and leaves that out",
            Wanted(prompt=france, sampling={"max_tokens": 9, "stop": ["Paris"]}),
            answers(lambda told: told.finish == "stop" and "Paris" not in told.text),
        ),
        Case(
            "several continuations by an adapter have probabilities and one prompt's cost",
            Wanted(
                prompt=france,
                model=model,
                sampling={"max_tokens": 2, "temperature": 1.0, "seed": 4, "n": 2, "logprobs": 1},
            ),
            answers(
                lambda told: (
                    told.version == version
                    and [_marked(text, mark, 2) for text in (told.text, *(text for text, _ in told.others))]
                    == [True] * 2
                    and [token for token, _ in told.logprobs] == [mark] * 2
                )
            ),
        ),
        Case(
            "a text beyond the window is not continued",
            Wanted(prompt="ferry " * 20_000),
            refuses("prompt_too_long"),
        ),
    ]
