"""What OpenAI's clients make of a limit that is reached, of their own impatience, and of a generator that dies under their stream."""

import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from trivium.access.v1 import access_pb2

from tests.edge import Edge, Gateway
from tests.node_flows import NodeFlows
from tests.stack import eventually

HELLO: Any = [{"role": "user", "content": "Hello"}]
LIMIT = 30


@pytest.fixture(scope="module")
def door(edge: Edge) -> Gateway:
    return edge.gateway()


def test_over_a_limit_it_comes_again_when_it_was_told_and_is_answered(edge: Edge, door: Gateway) -> None:
    answers: list[tuple[float, httpx2.Response]] = []
    watched = httpx2.Client(event_hooks={"response": [lambda it: answers.append((time.monotonic(), it))]})
    key = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}", access_pb2.Quota(requests_per_minute=LIMIT))
    with openai.OpenAI(base_url=f"{door.http}/v1", api_key=key, http_client=watched, max_retries=1) as client:
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


class Impatient:
    """Waits for one answer less than it takes, and for those that come later as long as it takes."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, request: httpx2.Request) -> None:
        self.asked += 1
        if self.asked == 1:
            request.extensions["timeout"] = {**request.extensions["timeout"], "read": 0.7}


def test_an_answer_that_it_does_not_wait_for_ends_there_and_its_repeat_is_charged_once(
    edge: Edge, door: Gateway
) -> None:
    request_id, tokens = str(uuid.uuid4()), 2000  # of a millisecond or two each
    # With one place, which the repeat needs.
    key = edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}", access_pb2.Quota(concurrent_requests=1))
    with openai.OpenAI(base_url=f"{door.http}/v1", api_key=key) as patient:
        # Whoever is known is answered before its patience ends, on a busy machine too.
        patient.chat.completions.create(model="base", messages=HELLO, max_tokens=1)
    impatient = Impatient()
    hurried = httpx2.Client(event_hooks={"request": [impatient]})
    with openai.OpenAI(base_url=f"{door.http}/v1", api_key=key, http_client=hurried, max_retries=1) as client:
        answer = client.chat.completions.create(
            model="base", messages=HELLO, max_tokens=tokens, extra_body={"trivium": {"request_id": request_id}}
        )
    assert impatient.asked == 2
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


def test_a_stream_that_breaks_off_is_an_error_of_the_api_to_both_clients(slow: Edge, tmp_path: Path) -> None:
    url, key = f"{slow.gateway().http}/v1", slow.tenant_key("streaming")
    with openai.OpenAI(base_url=url, api_key=key, max_retries=2) as client:
        stream = client.chat.completions.create(model="base", messages=HELLO, max_tokens=4000, stream=True)
        assert next(stream).choices
        node = NodeFlows(tmp_path, url, key)("broken", when_told=slow.generator.kill)
        with pytest.raises(openai.APIError) as broken:
            assert all(chunk.choices for chunk in stream)
    assert (broken.value.code, broken.value.type) == ("peer_unavailable", "server_error")
    assert node["isApiError"]
    assert (node["code"], node["type"]) == ("peer_unavailable", "server_error")
    assert 2 <= node["chunks"] < 4000
