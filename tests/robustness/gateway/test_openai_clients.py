"""What OpenAI's clients make of a limit that is reached, of their own impatience, and of a generator that dies under their stream."""

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import grpc
import httpx2
import openai
import pytest
from trivium.access.v1 import access_pb2
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from tests.edge import Edge
from tests.harness.gateway import Gateway
from tests.impatience import Impatient
from tests.node_flows import NodeFlows
from tests.robustness.gateway.starvation import Watched
from tests.robustness.gateway.test_usage_survives import heard, records
from tests.stack import eventually

HELLO: Any = [{"role": "user", "content": "Hello"}]
LIMIT = 30
SECOND = 1.0
# Seconds are asserted where the run has the machine to itself.
TIMED = pytest.mark.parametrize(
    "is_timed", [pytest.param(False, id="ends"), pytest.param(True, id="within-a-second", marks=pytest.mark.soak)]
)


def test_over_a_limit_it_comes_again_when_it_was_told_and_is_answered(edge: Edge, gateway: Gateway) -> None:
    answers: list[tuple[float, httpx2.Response]] = []
    watched = httpx2.Client(event_hooks={"response": [lambda it: answers.append((time.monotonic(), it))]})
    key = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}", access_pb2.Quota(requests_per_minute=LIMIT))
    with openai.OpenAI(base_url=f"{gateway.http}/v1", api_key=key, http_client=watched, max_retries=1) as client:
        while all(answer.status_code == 200 for _, answer in answers):
            client.chat.completions.create(model="base", messages=HELLO, max_tokens=1)
    assert [answer.status_code for _, answer in answers[-3:]] == [200, 429, 200]
    told = int(answers[-2][1].headers["retry-after"])
    refused, repeated = pairwise(moment for moment, _ in answers[-3:])
    assert told >= 1
    assert repeated[1] - refused[1] >= told


def spent(edge: Edge, key: str, request_id: str) -> dict[str, int]:
    """Tokens that were generated for a request, by the ids under which they are recorded."""
    found = edge.access_api(key).ListUsage(access_pb2.ListUsageRequest()).records
    records = [record for record in found if record.request_id.startswith(request_id)]
    return {record.request_id: record.receipt.usage.completion_tokens for record in records}


def running(edge: Edge) -> int:
    """How many answers the generator is in the words of."""
    with grpc.insecure_channel(edge.generator_address) as channel:
        engines = generator_pb2_grpc.GeneratorServiceStub(channel)
        (engine,) = engines.ListEngines(generator_pb2.ListEnginesRequest(), timeout=30).engines
    return int(engine.running)


def test_an_answer_that_it_does_not_wait_for_ends_there_and_its_repeat_is_charged_once(
    edge: Edge, gateway: Gateway
) -> None:
    request_id, tokens = str(uuid.uuid4()), 2000  # of a millisecond or two each
    # With one place, which the repeat needs.
    key = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}", access_pb2.Quota(concurrent_requests=1))
    neighbour = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}")

    def begun() -> None:
        eventually(lambda: running(edge), "the generator answers")
        # This came to the gateway on the same connection, behind the first words of that.
        patient.chat.completions.create(model="base", messages=HELLO, max_tokens=1)

    eventually(lambda: not running(edge), "nothing runs before")
    impatient = Impatient(begun)
    hurried: dict[str, Any] = {"http_client": impatient.client(), "max_retries": 5}
    with (
        openai.OpenAI(base_url=f"{gateway.http}/v1", api_key=neighbour) as patient,
        openai.OpenAI(base_url=f"{gateway.http}/v1", api_key=key, **hurried) as client,
    ):
        answer = client.chat.completions.create(
            model="base", messages=HELLO, max_tokens=tokens, extra_body={"trivium": {"request_id": request_id}}
        )
    # Its repeat is refused, and repeated, while the place is not free yet.
    assert impatient.asked > 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens == tokens
    eventually(lambda: len(spent(edge, key, request_id)) == 2, "both are recorded", 20)
    repeated = spent(edge, key, request_id)
    assert repeated.pop(request_id) == tokens
    ((given_up, made),) = repeated.items()
    assert given_up.startswith(f"{request_id}~cancelled-")
    assert 0 < made < tokens


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Edge]:
    """With a generator of its own, which is to die, at a pace that leaves time for it."""
    edge = Edge(tmp_path / "slow", token_ms=20)
    yield edge
    edge.close()


class Listener:
    """A stream in a thread of its own: how much was heard of it, and how and when it ended."""

    def __init__(self, open_: Callable[..., Iterable[Any]], texts: Callable[[Any], bool], **asked: Any) -> None:
        self.request_id = str(uuid.uuid4())
        self.heard = 0
        self.last: Any = None
        self.error: openai.APIError | None = None
        self.ended_at = 0.0
        self.begun = threading.Event()
        named = {"x-trivium-request-id": self.request_id}
        arguments = (open_, texts, {"model": "base", "stream": True, "extra_headers": named, **asked})
        self._thread = threading.Thread(target=self._listen, args=arguments, daemon=True)
        self._thread.start()

    def _listen(self, open_: Any, texts: Any, asked: dict[str, Any]) -> None:
        try:
            for self.last in open_(**asked):
                self.heard += texts(self.last)
                if self.heard:
                    self.begun.set()
        except openai.APIError as error:
            self.error = error
        finally:
            # Whatever else it ends in, nobody waits for it.
            self.ended_at = time.time()
            self.begun.set()

    def end(self) -> None:
        """Wait for it."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "the stream has no end"


def of_chat(chunk: Any) -> bool:
    return any(choice.delta.content for choice in chunk.choices)


def listeners(client: openai.OpenAI) -> list[Listener]:
    """A stream of each shape."""
    return [
        Listener(client.chat.completions.create, of_chat, messages=HELLO, max_tokens=4000),
        Listener(client.completions.create, lambda chunk: bool(chunk.choices[0].text), prompt="Hello", max_tokens=4000),
        Listener(
            client.responses.create,
            lambda event: event.type == "response.output_text.delta",
            input="Hello",
            max_output_tokens=4000,
            store=False,
        ),
    ]


@TIMED
def test_a_stream_that_breaks_off_is_an_error_of_the_api_to_both_clients_at_once_and_what_was_heard_counts(
    slow: Edge, tmp_path: Path, is_timed: bool
) -> None:
    url, key = f"{slow.gateway().http}/v1", slow.tenant_key("streaming")
    killed_at: list[float] = []

    def kill() -> None:
        assert all(stream.begun.wait(30) for stream in streams), "not every stream has begun"
        killed_at.append(time.time())
        slow.generator.kill()

    with openai.OpenAI(base_url=url, api_key=key, max_retries=2) as client, Watched() as watched:
        streams = listeners(client)
        node = NodeFlows(tmp_path, url, key)("broken", when_told=kill)
        for stream in streams:
            stream.end()
    for stream in streams:
        assert stream.error is not None
        assert (stream.error.code, stream.error.type) == ("peer_unavailable", "server_error")
        assert not is_timed or watched.seconds(killed_at[0], stream.ended_at) < SECOND
    assert streams[-1].last.type == "response.failed"
    assert node["isApiError"]
    assert (node["code"], node["type"]) == ("peer_unavailable", "server_error")
    assert 2 <= node["chunks"] < 4000
    assert not is_timed or watched.seconds(killed_at[0], node["at"]) < SECOND
    counted = {stream.request_id: stream.heard for stream in streams}
    assert eventually(lambda: of_ids(slow, key, counted), "what was heard is recorded") == counted


def of_ids(edge: Edge, key: str, wanted: Collection[str]) -> dict[str, int]:
    """Completion tokens of what broke off, by the ids of the requests, once all of them are recorded."""
    records = edge.access_api(key).ListUsage(access_pb2.ListUsageRequest()).records
    used = {name: it.receipt.usage for it in records for name, *_ in [it.request_id.split("~cancelled-")]}
    if not set(wanted) <= set(used):
        return {}
    assert {used[name].prompt_tokens for name in wanted} == {7}
    return {name: used[name].completion_tokens for name in wanted}


@TIMED
def test_the_end_of_a_stream_does_not_wait_for_an_access_that_died_and_is_recorded_when_it_is_back(
    edge: Edge, gateway: Gateway, is_timed: bool
) -> None:
    key = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}")
    request_id = str(uuid.uuid4())
    with openai.OpenAI(base_url=f"{gateway.http}/v1", api_key=key, max_retries=0) as client:
        headers = {"x-trivium-request-id": request_id}
        stream = client.chat.completions.create(
            model="base", messages=HELLO, max_tokens=400, stream=True, extra_headers=headers
        )
        first = next(stream)
        # Access is back only when the stream has ended.
        with edge.access.killed(), Watched() as watched:
            moments = [time.time() for chunk in chain([first], stream) if of_chat(chunk)]
            ended = time.time()
    assert len(moments) == 400
    assert not is_timed or watched.seconds(moments[-1], ended) < SECOND
    eventually(lambda: request_id in heard(edge, key), "the answer is recorded")
    assert records(edge, key)[request_id] == 1
