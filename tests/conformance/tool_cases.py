"""What both skins must answer alike of functions, and of texts that are continued: over a generator that is no engine.

It says as many words as it may, and calls the function that it must, or whose name the user says (``tests.simulated_generator``).
"""

import json
from collections.abc import Callable

from tests.conformance.gateway_cases import Case, answers, refuses
from tests.conformance.gateway_skins import Refused, Told, Wanted

WEATHER = ("weather", json.dumps({"type": "object", "properties": {"city": {"enum": ["Zug", "Chur"]}}}))
TIME = ("time", "")
_ASKED = (("user", "How is the weather in Zug?"),)
_CALLED = (*_ASKED, ("call", "weather"), ("tool", "Fog."))
_WORDS = " word word word"
_LIMIT = {"max_tokens": 3}


def cases() -> list[Case]:
    """The cases, over the base."""
    both = (WEATHER, TIME)
    return [
        Case(
            "a function is called with arguments of its schema",
            Wanted(_ASKED, tools=both, tool_choice="weather"),
            _calls(("weather", '{"city": "Zug"}')),
        ),
        Case(
            "one that takes nothing is called with nothing",
            Wanted(_ASKED, tools=both, tool_choice="time"),
            _calls(("time", "{}")),
        ),
        Case(
            "some function must be called",
            Wanted((("user", "Hello"),), tools=both, tool_choice="required"),
            _calls(("weather", '{"city": "Zug"}')),
        ),
        Case("a function may be called", Wanted(_ASKED, tools=both), _calls(("weather", '{"city": "Zug"}'))),
        Case("so it may where that is said", Wanted(_ASKED, tools=both, tool_choice="auto"), answers(_has_called)),
        Case(
            "functions may be left alone",
            Wanted((("user", "Hello"),), tools=both, sampling=_LIMIT),
            answers(_only_words),
        ),
        Case(
            "functions are left alone where that is said",
            Wanted(_ASKED, tools=both, tool_choice="none", sampling=_LIMIT),
            answers(_only_words),
        ),
        Case(
            "what a function returned is gone on from",
            Wanted(_CALLED, tools=both, sampling=_LIMIT),
            answers(lambda told: (told.text, told.calls, told.finish) == (_WORDS, (), "stop")),
        ),
        Case("a function by no name is refused", Wanted(_ASKED, tools=(("a b", ""),)), refuses("request_invalid")),
        Case(
            "a text is continued to its limit",
            Wanted(prompt="The ferry", sampling=_LIMIT),
            answers(lambda told: _only_words(told) and told.usage == (7, 3) and told.resolved == "base"),
        ),
        Case(
            "no tokens at all are refused of a text",
            Wanted(prompt="The ferry", sampling={"max_tokens": 0}),
            refuses("request_invalid"),
        ),
        Case(
            "a model that there is not continues no text",
            Wanted(prompt="The ferry", model="nobodys"),
            refuses("model_not_found"),
        ),
    ]


def _calls(*calls: tuple[str, str]) -> Callable[[Told | Refused], bool]:
    return answers(lambda told: (told.calls, told.text, told.finish) == (calls, "", "tool_calls"))


def _has_called(told: Told) -> bool:
    return bool(told.calls)


def _only_words(told: Told) -> bool:
    return (told.text, told.calls, told.finish) == (_WORDS, (), "length")
