"""Every route of the HTTP door under requests that its own document makes up; those of fine-tuning are beside the trainer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from trivium.access.v1 import access_pb2

from gateway.http.app import ROUTES
from tests.front import Front, Visitor
from tests.fuzzing import Fuzzed, Known

# Of a route that is more than a path, and of one that is not; in a soak so many times as many.
MOST, FEW = 8, 4
SOAK = 40
# They end what they name.
ENDING = ("DELETE", "cancel")
FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "How much?"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def somebody(answering: Front) -> Visitor:
    """Whose limits are so far that nothing reaches them: answers that they hold tell of them."""
    visitor, access = answering.newcomer(), answering.stack.access_api(answering.stack.key("admin"))
    quota = access_pb2.Quota(requests_per_minute=1_000_000, tokens_per_minute=1_000_000_000)
    access.UpdateQuota(access_pb2.UpdateQuotaRequest(tenant=visitor.keeper.tenant, quota=quota))
    return visitor


@pytest.fixture(scope="module")
def fuzzed(answering: Front, somebody: Visitor) -> Iterator[Fuzzed]:
    opened = Fuzzed(answering.http.removesuffix("/v1"), somebody.key, limited=True)
    yield opened
    opened.close()


def something(visitor: Visitor) -> Known:
    """One thing of each kind that routes name, and a body for each route that takes one."""
    file = visitor.file("# Fares\n\nA day ticket is 9 crowns.\n")
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "base", "prompt": "x"}}
    batch = visitor.keeper.batch(json.dumps(line).encode())
    store = visitor.ask("POST", "/vector_stores", {"name": "Ferry"}).json()["id"]
    put = visitor.ask("POST", f"/vector_stores/{store}/file_batches", {"file_ids": [file]}).json()["id"]
    response = {"model": "base", "input": "How much?", "max_output_tokens": 2}
    answer = visitor.ask("POST", "/responses", response).json()
    request = answer["trivium"]["request_id"]
    named = {
        "file": file,
        "store": store,
        "batch": batch.batch,
        "file_batch": put,
        "response": answer["id"],
        "request_id": request,
        "name": "base",
    }
    stores = "/v1/vector_stores"
    searched = {**response, "tools": [{"type": "file_search", "vector_store_ids": [store]}]}
    text = {"model": "base", "prompt": "x", "max_tokens": 2}
    bodies = {
        "/v1/chat/completions": [CHAT, {**CHAT, "stream": True}],
        "/v1/completions": [text, {**text, "stream": True}],
        "/v1/embeddings": [{"model": "all-minilm-l6-v2", "input": "x"}],
        "/v1/batches": [{"input_file_id": batch.input_file, "endpoint": "/v1/completions", "completion_window": "24h"}],
        "/v1/responses": [
            searched,
            {**searched, "stream": True, "trivium": {"abstention": "strict", "explain": True}},
            {**response, "tools": [FUNCTION]},
        ],
        "/v1/responses/input_tokens": [{"model": "base", "input": "How much?", "tools": [FUNCTION]}],
        "/v1/trivium/replays": [{"request_id": request, "request": CHAT}],
        stores: [{"file_ids": [file]}],
        f"{stores}/{{store}}/search": [{"query": "fares"}],
        f"{stores}/{{store}}/files": [{"file_id": file}],
        f"{stores}/{{store}}/file_batches": [{"file_ids": [file]}],
    }
    return Known(named, bodies)


@pytest.fixture(scope="module")
def shared(somebody: Visitor) -> Known:
    return something(somebody)


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(1, marks=pytest.mark.sampled(every=3, family="fuzzed routes")),
        pytest.param(SOAK, marks=pytest.mark.soak),
    ],
)
@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if "/fine_tuning/" not in route.path],
    ids=lambda route: f"{route.verb} {route.path}",
)
def test_every_answer_is_one_of_the_document(
    route: Any, times: int, fuzzed: Fuzzed, shared: Known, somebody: Visitor
) -> None:
    path = route.path.replace(":path}", "}")
    known = something(somebody) if route.verb in ENDING or path.endswith(ENDING) else shared
    if "vector_stores" in path:
        known = replace(known, named={**known.named, "batch": known.named["file_batch"]})
    says_more = route.body is not None or bool(route.query.model_fields)
    fuzzed.check(route.verb, path, known, times * (MOST if says_more else FEW))
