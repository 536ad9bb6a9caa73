"""Replays over HTTP: the request in OpenAI's shape, and what was found as the document describes it."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from trivium.gateway.v1 import replays_pb2

from gateway.asking.question import Question
from gateway.chat import Conversation
from gateway.generation import Message, Receipt, SourceSpan, Speaker, TokenLogprob, ToolUse
from gateway.http.replays import ROUTES, ReplayShown
from gateway.http.transport import Asked
from gateway.replaying import wire
from gateway.replaying.nouns import Difference, Named, Recalled, Replay, Reread, Revisited, Verdict
from services.chassis.errors import Failure, Reason

ID = "5b1c6f0e-3b1d-4f0e-9d52-0f7d1c1f6a11"
TURNS = [{"role": "user", "content": "Where to?"}]
MADE = TokenLogprob(" sea", 1, -0.5, (TokenLogprob(" sea", 1, -0.5), TokenLogprob(" see", 2, -math.inf)))
FOUND = Replay(
    Verdict.PROMPT_DIFFERS,
    "why",
    Receipt(ID),
    Receipt(f"{ID}~replay-1"),
    "to sea",
    (Difference(1, 2, MADE, MADE.top[1], 2), Difference(3, 9, None)),
    (Reread(SourceSpan("c", "d", "v", 0, 3, "k", 1), "t", "abc"), Reread(SourceSpan("c", "gone", "v", 0, 3))),
    (Revisited("c", "v1", "v2"), Revisited("gone", "v1")),
)


@dataclass
class Servicers:
    """One servicer, of one answer."""

    asked: list[replays_pb2.ReplayAnswerRequest] = field(default_factory=list)

    @property
    def replays(self) -> "Servicers":
        return self

    async def ReplayAnswer(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return wire.response(FOUND)


def read(body: dict[str, Any]) -> replays_pb2.ReplayAnswerRequest:
    (route,) = ROUTES
    message = route.exchange(Servicers(), "id").parse(Asked(json.dumps(body).encode()))  # type: ignore[arg-type]  # a stand-in
    assert isinstance(message, replays_pb2.ReplayAnswerRequest)
    return message


def test_a_chat_is_replayed_with_its_tools_and_an_unset_answer_is_none():
    tools = [{"type": "function", "function": {"name": "sail", "parameters": {}}}]
    message = read({"request_id": ID, "request": {"model": "base", "messages": TURNS, "tools": tools}})
    recalled = wire.recalled(message)
    assert isinstance(recalled, Recalled)
    assert (recalled.request_id, recalled.answer, recalled.rewritten) == (ID, None, "")
    assert isinstance(recalled.asked, Conversation)
    assert recalled.asked.prompt == (Message(Speaker.USER, "Where to?"),)
    assert isinstance(recalled.asked.wish.tools, ToolUse)
    assert recalled.asked.wish.request_id == ID


def test_a_question_and_a_text_are_replayed_as_such_and_an_empty_answer_is_one():
    body = {"model": "base", "messages": TURNS, "trivium": {"collection": "ferry"}}
    asked = wire.recalled(read({"request_id": ID, "request": body, "answer": "", "rewritten_question": "q"}))
    assert isinstance(asked, Recalled)
    assert isinstance(asked.asked, Question)
    assert (asked.asked.scope.collections, asked.answer, asked.rewritten) == (("ferry",), "", "q")
    text = wire.recalled(read({"request_id": f"{ID}~rewrite", "request": {"model": "base", "prompt": "Once"}}))
    assert isinstance(text, Recalled)
    assert isinstance(text.asked, Conversation)
    assert (text.request_id, text.asked.prompt, text.asked.wish.request_id) == (f"{ID}~rewrite", "Once", "")


@pytest.mark.parametrize("body", [{}, {"request": None}, {"answer": "Out."}])
def test_without_a_request_an_answer_is_named_alone(body):
    assert wire.recalled(read({"request_id": ID, **body})) == Named(ID, body.get("answer"))


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        ({"request": {}}, Reason.FIELD_INVALID, "request"),
        ({"request": {"messages": TURNS, "prompt": "x"}}, Reason.FIELD_INVALID, "request"),
        ({"request": {"model": "base", "messages": TURNS, "colour": 1}}, Reason.PARAMETER_UNSUPPORTED, "colour"),
        ({"request": {"model": "base", "prompt": "x"}, "colour": 1}, Reason.PARAMETER_UNSUPPORTED, "colour"),
    ],
)
def test_what_is_no_request_and_what_is_not_known_is_refused_by_name(body, reason, field):
    with pytest.raises(Failure) as caught:
        read({"request_id": ID, **body})
    assert (caught.value.reason, caught.value.field) == (reason, field)


async def test_what_was_found_is_told_as_the_document_says():
    (route,) = ROUTES
    exchange = route.exchange(Servicers(), "id")  # type: ignore[arg-type]  # a stand-in
    message = exchange.parse(Asked(json.dumps({"request_id": ID, "request": {"model": "b", "prompt": "x"}}).encode()))
    told = ReplayShown.model_validate_json(b"".join([chunk async for chunk in exchange.answer(message, None)]))  # type: ignore[arg-type]  # of no use here
    assert (told.verdict, told.explanation, told.text) == ("prompt_differs", "why", "to sea")
    assert told.replayed is not None
    assert told.replayed.request_id == f"{ID}~replay-1"
    first, last = told.differences
    assert (first.position, first.start, first.rank, first.margin) == (1, 2, 2, None)
    assert (first.made and first.made.token, first.rival and first.rival.token) == (" sea", " see")
    assert (last.made, last.rival, last.rank) == (None, None, None)
    assert [(item.found, item.text) for item in told.sources] == [(True, "abc"), (False, "")]
    assert [(it.collection, it.version, it.present_version) for it in told.collections] == [
        ("c", "v1", "v2"),
        ("gone", "v1", None),
    ]
