"""Answers from sources in the shapes of responses: what is asked of them, what they tell, and what is said in their place."""

import json
from types import SimpleNamespace
from typing import Any

from trivium.gateway.v1 import responses_pb2 as pb

from gateway.http import asking
from gateway.http.errors import of_status
from gateway.http.responses import rendering
from gateway.http.responses.events import FailureEvent, ResponseStreamed
from gateway.http.responses.routes import ResponseExchange
from gateway.http.schemas import Manner
from gateway.http.transport import Asked
from services.chassis.errors import Failure, Reason
from services.chassis.status import to_status
from tests.unit.gateway.test_openai_responses import GROUNDS, PB, REFUSAL, created


def test_what_is_said_in_place_of_an_answer_is_a_refusal_in_events_and_items_and_goes_back_as_one():
    text = pb.OutputText(output_index=1, item="m", text="No.", refused=True)
    kinds = {}
    for name in ("part_added", "text_delta", "text_done", "part_done"):
        lines = rendering.event(PB.CreateResponseResponse(**{name: text}), results=False).decode().split("\n")
        told = json.loads(lines[1].removeprefix("data: "))
        ResponseStreamed.model_validate(told)
        kinds[told.pop("type")] = told
    refusal = {"type": "refusal", "refusal": "No."}
    assert list(kinds) == [
        "response.content_part.added",
        "response.refusal.delta",
        "response.refusal.done",
        "response.content_part.done",
    ]
    assert kinds["response.refusal.delta"]["delta"] == kinds["response.refusal.done"]["refusal"] == "No."
    assert kinds["response.content_part.done"]["part"] == refusal
    shown = rendering.item(REFUSAL)
    assert shown["content"] == [{"type": "refusal", "refusal": "It is not in the sources."}]
    (back, _) = created(input=[shown, {"role": "user", "content": "And?"}]).input
    assert list(back.message.parts) == ["It is not in the sources."]


def test_what_trivium_adds_has_the_names_that_chats_have_and_is_told_as_there():
    wanted = {
        "abstention": "strict",
        "path": "passages",
        "rewrite": False,
        "release": "sentence",
        "unsupported": "withhold",
        "check_support": True,
        "explain": True,
        "fallbacks": False,
        "as_readers": ["staff"],
        "fallback": "base",
    }
    settings = created(trivium=wanted).settings
    for name, value in asking.fields(Manner(**wanted)).items():
        assert getattr(settings, name) == value, name
    assert created(trivium={"regex": "a+"}).settings.structured_output.regex == "a+"
    request_id = "00000000-0000-4000-8000-000000000002"
    assert created(trivium={"request_id": request_id}).request_id == request_id


def test_what_was_decided_is_told_before_the_text_and_the_rest_at_the_end():
    known = {name: GROUNDS[name] for name in ("path", "abstention", "rewrite", "left_out")}
    begun = rendering.response(PB.Response(status=pb.RESPONSE_STATUS_IN_PROGRESS, **known), results=False)["trivium"]
    assert set(begun) == set(known)
    ended = rendering.response(PB.Response(receipt={"request_id": "r"}, **GROUNDS), results=False)["trivium"]
    assert {name: ended[name] for name in known} == begun
    assert (begun["abstention"]["policy"], begun["left_out"][0]["title"]) == ("hedge", "t")
    (sentence,) = ended["sentences"]
    assert (sentence["verdict"], sentence["judge"], sentence["text"]) == ("unsupported", "words", "abc")
    (stage,) = ended["stages"]
    assert (stage["stage"], stage["input_size"], stage["decision"]) == ("retrieve", 0, "3 passages")
    assert (ended["unresolved_markers"], ended["prompt_format"]) == ([7], "numbered-sources-1")


async def test_a_stream_that_fails_ends_with_an_event_that_clients_know():
    class Breaks:
        async def CreateResponse(self, request, context):
            yield PB.CreateResponseResponse(sequence_number=0, created={"response": "r"})
            yield PB.CreateResponseResponse(sequence_number=1, failed={"response": "r"})

    servicers: Any = SimpleNamespace(responses=Breaks())
    exchange = ResponseExchange(servicers, "00000000-0000-4000-8000-000000000001")
    message = exchange.parse(Asked(json.dumps({"input": "Hello", "stream": True}).encode()))
    told = b"".join([chunk async for chunk in exchange.answer(message, PB)])
    assert told.count(b"event: response.") == 2
    failure = Failure(Reason.PEER_UNAVAILABLE, service="generator")
    error = of_status(to_status(failure, correlation_id="c"), "r", exchange.sent).body
    name, data, *_ = exchange.broken(error).decode().split("\n")
    shown = FailureEvent.model_validate_json(data.removeprefix("data: "))
    assert (name, shown.sequence_number, shown.code) == ("event: error", 2, "peer_unavailable")
    assert (shown.error.code, shown.error.message, shown.error.type) == (shown.code, shown.message, "server_error")
