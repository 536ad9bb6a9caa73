"""A batch asks at the real gateway, in its creator's name: the registry that stands behind it does not know the model."""

import json
from collections.abc import Iterator

import httpx
import pytest
from trivium.files.v1 import batch_pb2 as pb

from tests.filing import Filing
from tests.harness.gateway import Gateway
from tests.harness.ports import reserved_address
from tests.stack import Stack, eventually


@pytest.fixture(scope="module")
def shop(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Filing, Gateway]]:
    """Files and a gateway that know one another."""
    folder = tmp_path_factory.mktemp("shop")
    with reserved_address() as listen:
        filing = Filing(folder / "files", stack, {"TRIVIUM_FILES_GATEWAY_URL": f"http://{listen}"})
        behind = {"TRIVIUM_GATEWAY_HTTP_LISTEN": listen, "TRIVIUM_REGISTRY_ADDRESS": stack.registry.address}
        gateway = filing.gateway(folder / "gateway", behind)
        yield filing, gateway
        gateway.stop()
        filing.close()


def line(custom_id: str, model: str) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    whole = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(whole).encode() + b"\n"


def test_lines_are_asked_as_their_creator_and_answered_under_their_own_ids(shop: tuple[Filing, Gateway]):
    filing, _ = shop
    user = filing.newcomer()
    content = line("one", "no-such-model") + line("two", "no-other-model")
    batch = user.batch(content, endpoint=pb.BATCH_ENDPOINT_CHAT_COMPLETIONS).batch
    found = user.ended(batch)
    assert (found.state, found.completed, found.failed) == (pb.BATCH_STATE_COMPLETED, 0, 2)
    lines = user.lines(found.error_file)
    assert [each["custom_id"] for each in lines] == ["one", "two"]
    for each in lines:
        assert each["response"]["status_code"] == 404
        assert each["response"]["body"]["error"]["code"] == "model_not_found"
    assert len({each["response"]["request_id"] for each in lines}) == 2


def test_while_no_gateway_answers_a_batch_waits_and_then_goes_on(shop: tuple[Filing, Gateway]):
    filing, gateway = shop
    user = filing.newcomer()
    gateway.keep_port()
    gateway.kill()
    batch = user.batch(line("one", "no-such-model"), endpoint=pb.BATCH_ENDPOINT_CHAT_COMPLETIONS).batch

    def begun() -> bool:
        found = user.batches.GetBatch(pb.GetBatchRequest(batch=batch)).batch
        return bool(found.state == pb.BATCH_STATE_IN_PROGRESS)

    eventually(begun, "it is asked")
    gateway.start()
    assert user.ended(batch).failed == 1


def test_the_id_that_a_caller_gives_its_request_comes_back_and_must_be_one(shop: tuple[Filing, Gateway]):
    filing, gateway = shop
    user = filing.newcomer()
    headers = {
        "authorization": f"Bearer {user.credential}",
        "x-trivium-request-id": "01a22927-439d-74d3-8a5d-6d867e147930",
    }
    answer = httpx.get(f"{gateway.http}/v1/files", headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, headers["x-trivium-request-id"])
    answer = httpx.get(f"{gateway.http}/v1/files", headers={**headers, "x-trivium-request-id": "no-uuid"})
    assert answer.status_code == 400
    assert "x-trivium-request-id" in answer.json()["error"]["message"]
