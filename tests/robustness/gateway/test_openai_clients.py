"""What OpenAI's clients make of a limit that is reached, and of a generator that dies under their stream."""

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
