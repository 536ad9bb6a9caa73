"""Whichever backend dies under a call, its caller hears of it within a second, in the shape of the door and of its client.

What the backend was needed for decides how: the call fails and names it, or goes on without it and says so.

How long a caller waits is what the gateway waits between its attempts at the backend.  That is computed, from the calls
that it makes and the service config; and it is measured with pauses of a tenth, so that a busy machine does not count.
``make soak`` measures it with the pauses that are shipped.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc
import httpx2
import openai
import pytest
import pytest_asyncio
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import files_pb2, files_pb2_grpc, gateway_pb2, gateway_pb2_grpc

from services.chassis.status import from_rpc_error
from tests.harness.timeouts import HANG_SECONDS
from tests.robustness.gateway.backends import PIECE, PIECES, Doors, Watch, doors
from tests.unit.gateway.test_short_retries import JITTER, pauses

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECOND = 1.0
SEARCH: Any = {"type": "file_search", "vector_store_ids": ["vs_1"]}
HELLO: Any = [{"role": "user", "content": "Do dogs pay?"}]


@dataclass
class Outcome:
    """What a client made of a call: events by their names, the last of them whole, and what it raised."""

    events: list[str]
    last: Any = None
    raised: Any = None

    @property
    def code(self) -> str:
        """Why it failed, as the door tells it; empty where it did not."""
        if self.raised is None:
            return ""
        if isinstance(self.raised, grpc.aio.AioRpcError):
            failure = from_rpc_error(self.raised)
            return f"{failure.reason} {failure.variables['service']}"
        return f"{type(self.raised).__name__} {getattr(self.raised, 'code', None)}"


FAILURES = (openai.OpenAIError, httpx2.HTTPError, grpc.aio.AioRpcError)
Call = Callable[[Doors, Outcome], Coroutine[Any, Any, None]]


async def chat(to: Doors, heard: Outcome) -> None:
    async for chunk in await to.client.chat.completions.create(model="base", messages=HELLO, stream=True):
        heard.events += [choice.finish_reason or "text" for choice in chunk.choices]


def chat_with(model: str) -> Call:
    async def call(to: Doors, heard: Outcome) -> None:
        heard.last = await to.client.chat.completions.create(model=model, messages=HELLO)

    return call


async def chat_with_sources(to: Doors, heard: Outcome) -> None:
    asked: Any = {"model": "base", "messages": HELLO, "extra_body": {"trivium": {"collection": "vs_1"}}}
    async for chunk in await to.client.chat.completions.create(**asked, stream=True):
        heard.events += [choice.finish_reason or "text" for choice in chunk.choices]
        found = (chunk.model_extra or {}).get("trivium", {}).get("sources", ())
        heard.events += [source["document"] for source in found]


async def completion(to: Doors, heard: Outcome) -> None:
    async for chunk in await to.client.completions.create(model="base", prompt="Do dogs", stream=True):
        heard.events += [choice.finish_reason or "text" for choice in chunk.choices]


def response(*tools: Any, store: bool = False) -> Call:
    async def call(to: Doors, heard: Outcome) -> None:
        created = to.client.responses.create(model="base", input="Do dogs pay?", tools=tools, stream=True, store=store)
        async for event in await created:
            heard.events.append(event.type)
            heard.last = event

    return call


async def whole_response(to: Doors, heard: Outcome) -> None:
    heard.last = await to.client.responses.create(model="base", input="Do dogs pay?", store=False)


async def parsed_response(to: Doors, heard: Outcome) -> None:
    async with to.client.responses.stream(model="base", input="Do dogs pay?", store=False) as stream:
        heard.last = await stream.get_final_response()


async def embeddings(to: Doors, heard: Outcome) -> None:
    heard.last = await to.client.embeddings.create(model="minilm", input="Do dogs pay?")


async def job(to: Doors, heard: Outcome) -> None:
    heard.last = await to.client.fine_tuning.jobs.retrieve("ftjob-1")


async def download(to: Doors, heard: Outcome) -> None:
    heard.last = (await to.client.files.content("file_1")).content


async def download_in_parts(to: Doors, heard: Outcome) -> None:
    async with to.client.files.with_streaming_response.content("file_1") as answer:
        async for part in answer.iter_bytes(100_000):
            heard.events.append(f"{len(part)} bytes")


def rpc(name: str, request: Any) -> Call:
    async def call(to: Doors, heard: Outcome) -> None:
        stub = gateway_pb2_grpc.GatewayServiceStub(to.channel)
        async for event in getattr(stub, name)(request, metadata=to.metadata, timeout=60):
            to.begun.set()
            heard.events.append(event.WhichOneof("part"))
            heard.last = event

    return call


async def read_file(to: Doors, heard: Outcome) -> None:
    stub = files_pb2_grpc.FileServiceStub(to.channel)
    async for _ in stub.ReadFile(files_pb2.ReadFileRequest(file="file_1"), metadata=to.metadata, timeout=60):
        to.begun.set()
        heard.events.append("piece")


# Of what they do, nothing is needed once an answer is under way: whatever has stopped then goes on.
GONE_ON_WITHOUT = ("registry",)
ASK = gateway_pb2.AskRequest(question="Do dogs pay?", collections=["vs_1"])
TURN = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Do dogs pay?")
CHAT = gateway_pb2.ChatRequest(messages=[TURN])
# Where a backend has begun to answer: a call that breaks off there is not tried again.
IN_AN_ANSWER = ("a word", "a piece")
# What the registry knows the meaning of.
NAME = "base:big"
# Before it answers, a stream has not begun.
BEFORE = ("Search", "ResolveModel", "ListCandidates")
COMPLETE = gateway_pb2.CompleteRequest(prompt="Do dogs")
CALLS: dict[str, Call] = {
    "chat": chat,
    "chat by name": chat_with(NAME),
    "chat of auto": chat_with("auto"),
    "chat with sources": chat_with_sources,
    "completion": completion,
    "response": response(),
    "response that is kept": response(store=True),
    "response that searches": response(SEARCH),
    "response that searches and is kept": response(SEARCH, store=True),
    "response of the client's helper": parsed_response,
    "whole response": whole_response,
    "embeddings": embeddings,
    "fine-tuning job": job,
    "download": download,
    "download in parts": download_in_parts,
    "ReadFile": read_file,
    "Ask": rpc("Ask", ASK),
    "Ask by name": rpc("Ask", gateway_pb2.AskRequest(question="Do dogs pay?", model=NAME)),
    "Chat": rpc("Chat", CHAT),
    "Chat by name": rpc("Chat", gateway_pb2.ChatRequest(messages=[TURN], model=NAME)),
    "Complete": rpc("Complete", COMPLETE),
}


async def connect(to: Doors) -> None:
    """Make each call once, so that the gateway is connected to every backend: short pauses do not wait for that."""
    for call in CALLS.values():
        async with asyncio.timeout(60):
            while True:
                try:
                    await call(to, Outcome([]))
                    break
                except FAILURES:
                    continue
    await to.back()


async def ends(to: Doors, call: Call, at: str, dies: str, *, begun: bool = False) -> Outcome:
    """What a call comes to whose backend dies where it has stopped, once its answer has ``begun``; the others go on."""
    heard = Outcome([])
    to.begun.clear()
    to.stops.at(at)
    calling = asyncio.create_task(call(to, heard))
    reached = asyncio.create_task(to.stops.reached.wait())
    async with asyncio.timeout(HANG_SECONDS):
        await asyncio.wait({calling, reached}, return_when=asyncio.FIRST_COMPLETED)
        assert reached.done(), f"the call ended before its backend stopped: {calling.exception()}"
        if begun:
            await to.begun.wait()
        made = len(to.called)
        await to.kill(dies)
        watch = Watch()
        if dies in GONE_ON_WITHOUT:
            to.stops.let_go()
        try:
            await calling
        except FAILURES as error:
            heard.raised = error
    assert watch.stop() < SECOND
    under_way = [] if at in IN_AN_ANSWER else to.called[:made][-1:]
    assert waited([path for path in under_way + to.called[made:] if f"/trivium.{dies}." in path]) < SECOND
    return heard


def waited(paths: list[str]) -> float:
    """Return how long one waits at most, in seconds, for these calls to a backend that is away, one after another."""
    names = [path.removeprefix("/trivium.").split("/") for path in paths]
    return sum(sum(pauses(service, method)) for service, method in names) * (1 + JITTER)


STREAM = "APIError peer_unavailable"
WHOLE = "InternalServerError peer_unavailable"
OF_GENERATOR = "PEER_UNAVAILABLE generator"


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param(0.1, id="short-pauses"), pytest.param(1.0, id="as-shipped", marks=pytest.mark.soak)],
)
async def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    async with doors(tmp_path_factory.mktemp("backends"), request.param) as both:
        await connect(both)
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def to(opened: Doors) -> AsyncIterator[Doors]:
    yield opened
    await opened.back()


@pytest.mark.parametrize(
    ("call", "at", "dies", "code"),
    [
        ("chat", "a word", "generator", STREAM),
        ("chat with sources", "a word", "generator", STREAM),
        ("completion", "a word", "generator", STREAM),
        ("response", "a word", "generator", STREAM),
        ("response that searches", "a word", "generator", STREAM),
        ("response that searches", "Generate", "generator", STREAM),
        ("response that searches and is kept", "GetDocument", "retriever", STREAM),
        ("response that searches", "Search", "retriever", WHOLE),
        ("response of the client's helper", "a word", "generator", STREAM),
        ("whole response", "a word", "generator", WHOLE),
        ("embeddings", "Embed", "embedder", WHOLE),
        ("fine-tuning job", "GetJob", "trainer", WHOLE),
        ("download", "ReadFile", "files", WHOLE),
        ("download", "a piece", "files", "APIConnectionError None"),
        ("download in parts", "a piece", "files", "RemoteProtocolError None"),
        ("ReadFile", "a piece", "files", "PEER_UNAVAILABLE files"),
        ("Ask", "a word", "generator", OF_GENERATOR),
        ("Ask", "Generate", "generator", OF_GENERATOR),
        ("Ask", "Search", "retriever", "PEER_UNAVAILABLE retriever"),
        ("chat by name", "ResolveModel", "registry", WHOLE),
        ("chat of auto", "ListCandidates", "registry", WHOLE),
        ("chat of auto", "Embed", "embedder", WHOLE),
        ("Ask by name", "ResolveModel", "registry", "PEER_UNAVAILABLE registry"),
        ("Chat by name", "ResolveModel", "registry", "PEER_UNAVAILABLE registry"),
        ("Chat", "a word", "generator", OF_GENERATOR),
        ("Complete", "a word", "generator", OF_GENERATOR),
    ],
)
async def test_a_call_that_cannot_go_on_fails_within_a_second(
    to: Doors, call: str, at: str, dies: str, code: str
) -> None:
    heard = await ends(to, CALLS[call], at, dies, begun=code != WHOLE and at not in BEFORE)
    assert heard.code == code
    if isinstance(heard.raised, openai.APIError) and heard.raised.body is not None:
        assert dies in heard.raised.message
        assert set(heard.raised.body) == {"message", "type", "param", "code"}  # type: ignore[call-overload]  # a mapping
        assert (heard.raised.type, heard.raised.param) == ("server_error", None)
    if isinstance(heard.raised, grpc.aio.AioRpcError):
        assert from_rpc_error(heard.raised).retry_after_seconds
    if "sources" in call:
        assert heard.events[1] == "d.md"
    if call.startswith("response") and CALLS[call] is not parsed_response and code == STREAM:
        assert heard.events[0] == "response.created"
        # Whoever reads the events alone hears it too, and what clients raise comes after.
        assert heard.events[-1] == "response.failed"
        assert (heard.last.response.status, heard.last.response.error.code) == ("failed", "server_error")
    assert sum(int(part.split()[0]) for part in heard.events if part.endswith("bytes")) < PIECES * len(PIECE)


async def test_what_ends_a_response_that_breaks_off_is_an_event_as_all_of_them_are(to: Doors) -> None:
    lines: list[str] = []

    async def raw(to: Doors, heard: Outcome) -> None:
        asking = to.client.responses.with_streaming_response.create
        async with asking(model="base", input="Do dogs pay?", stream=True, store=False) as answer:
            lines.extend([line async for line in answer.iter_lines()])

    await ends(to, raw, "a word", "generator", begun=True)
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[-2:]] == ["response.failed", "error"]
    assert [line.removeprefix("event: ") for line in lines if line.startswith("event: ")][-1] == "error"
    assert events[-1]["code"] == events[-1]["error"]["code"] == "peer_unavailable"


@pytest.mark.parametrize(
    ("call", "at", "dies", "told"),
    [
        ("chat", "RecordUsages", "access", ""),
        ("response that searches and is kept", "RecordUsages", "access", ""),
        ("embeddings", "RecordUsages", "access", ""),
        ("response that is kept", "PutResponse", "files", "store"),
        ("response that searches", "Embed", "embedder", "verify"),
        ("Ask", "Embed", "embedder", "verify"),
        ("response that searches", "a word", "registry", ""),
    ],
)
async def test_a_call_that_can_go_on_ends_within_a_second_and_says_what_it_lacks(
    to: Doors, call: str, at: str, dies: str, told: str
) -> None:
    recorded = len(to.backends.recorded)
    heard = await ends(to, CALLS[call], at, dies)
    # What access did not take is on this machine's disk before the end is told, and is recorded when it is back.
    waiting = to.waiting
    await to.back()
    assert heard.raised is None, heard.raised
    assert heard.events[-1:] in ([], ["stop"], ["response.completed"], ["final"])
    assert told in stages_replaced(heard.last)
    if isinstance(heard.last, gateway_pb2.AskResponse):
        # Of what vectors would have judged the words do.
        assert heard.last.final.sentences[0].judge == gateway_pb2.SUPPORT_JUDGE_WORDS
    assert bool(waiting) == (dies == "access")
    assert len(set(to.backends.recorded[recorded:])) == 1


def stages_replaced(last: Any) -> list[str]:
    """Which stages were replaced by something else, as an answer's end says; an empty one where none was."""
    if isinstance(last, gateway_pb2.AskResponse):
        return [it.stage for it in last.final.fallbacks] or [""]
    told = getattr(getattr(last, "response", None), "trivium", None) or {}
    return [it["stage"] for it in told.get("fallbacks", ())] or [""]
