"""The HTTP listener: answers of any length, and clients that leave, which are no fault of ours."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from gateway.http.app import ROUTES, Endpoint, _query
from gateway.http.responses import requests
from gateway.http.transport import Asked, Door, Refused
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.dispatch import Dispatcher
from services.chassis.interceptors.validation import ValidationLayer
from services.chassis.status import to_status
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.gateway.test_openapi import Servicers

CHAT = next(route for route in ROUTES if route.path == "/v1/chat/completions")
ID = "01890000-0000-7000-8000-000000000000"


def endpoint_of(path: str, *layers: Any) -> Endpoint:
    runtime: Any = SimpleNamespace(new_id=lambda: ID, settings=SimpleNamespace(max_message_bytes=100))
    servicers: Any = Servicers()
    return Endpoint(next(route for route in ROUTES if route.path == path), servicers, Dispatcher(layers), runtime)


async def nobody(*_: Any) -> Any:
    raise AssertionError("nobody is asked")


class Long:
    """Says more than a message of gRPC's may have."""

    def __init__(self) -> None:
        self.request_id = ID
        self.stream = False
        self.sent: dict[str, str] = {}

    def parse(self, asked: Asked) -> Any:
        raise AssertionError("no layer parses here")

    async def answer(self, message: Any, context: Any) -> AsyncGenerator[bytes]:
        yield b"x" * (5 << 20)


async def test_an_answer_may_be_longer_than_a_message_of_grpcs() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await Door("/v1/embeddings", lambda _: Long(), Dispatcher(())).serve(ID, {}, Asked(), {}, receive, send)
    assert [message.get("status") for message in sent] == [200, None]
    assert len(sent[1]["body"]) == 5 << 20


async def test_one_that_leaves_in_its_body() -> None:
    said = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(said)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [], "query_string": b"", "path_params": {}}
    settings: Any = SimpleNamespace(stream_idle_seconds=60.0)
    # In the task of the test, which goes on.
    await endpoint_of(CHAT.path, ValidationLayer(settings))(scope, receive, send)
    assert sent == []


async def test_a_parameter_that_says_two_things_is_refused_and_one_said_twice_is_not() -> None:
    endpoint = endpoint_of("/v1/files")
    scope = {"type": "http", "headers": [], "query_string": b"limit=1&limit=2", "path_params": {}}
    with pytest.raises(HTTPException, match=r"\blimit\b"):
        await endpoint(scope, nobody, nobody)
    assert _query(b"include=a&include=a&limit=1")["include"] == "a"


def test_every_value_of_a_list_is_read_and_what_is_not_there_refused_by_name() -> None:
    # As the official client sends two.
    both = _query(b"include[]=file_search_call.results&include[]=message.output_text.logprobs")
    for asks in (requests.get, requests.input_items):
        with pytest.raises(Failure, match=r"message.output_text.logprobs") as refused:
            asks(Asked(path={"response": "resp_1"}, query=both))
        assert (refused.value.reason, refused.value.field) == (Reason.PARAMETER_UNSUPPORTED, "include")
        twice = _query(b"include=file_search_call.results&include[]=file_search_call.results")
        assert asks(Asked(path={"response": "resp_1"}, query=twice)).include_results


@pytest.mark.parametrize("stalls_at", ["http.response.start", "http.response.body"])
async def test_one_that_leaves_while_it_is_told_of_a_failure(monkeypatch: pytest.MonkeyPatch, stalls_at: str) -> None:
    monkeypatch.setattr("gateway.http.connection._WATCHED_AFTER_SECONDS", 0.0)
    stalled = asyncio.Event()

    async def refusing(proceed: Any, call: Any) -> None:
        raise Refused(to_status(Failure(Reason.OVERLOADED, limit=1), correlation_id=ID))

    async def receive() -> Any:
        await stalled.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == stalls_at:
            stalled.set()
            await asyncio.Event().wait()

    servicers: Any = Servicers()
    door = Door(CHAT.path, lambda _: CHAT.exchange(servicers, ID), Dispatcher((refusing,)))
    async with asyncio.timeout(HANG_SECONDS):
        await door.serve(ID, {}, Asked(), {}, receive, send)
