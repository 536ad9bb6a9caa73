"""One request id is no way around a budget: whatever is generated under it is recorded and counts, once."""

import uuid

import grpc
import httpx
from trivium.access.v1 import usage_pb2, usage_pb2_grpc

from tests.edge import Edge
from tests.harness.gateway import Gateway
from tests.robustness.gateway.known_limits import limited_and_known
from tests.stack import Api

BUDGET = 400
TOKENS = 13


def ask(client: httpx.Client, gateway: Gateway, request_id: str, content: str) -> httpx.Response:
    body = {
        "model": "base",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": TOKENS,
        "trivium": {"request_id": request_id},
    }
    return client.post(f"{gateway.http}/v1/chat/completions", json=body)


def exported(edge: Edge, key: str) -> list[usage_pb2.UsageLine]:
    with grpc.insecure_channel(edge.access.address) as channel:
        api = Api(usage_pb2_grpc.UsageServiceStub(channel), key)
        return [line for part in api.ExportUsage(usage_pb2.ExportUsageRequest()) for line in part.lines]


def test_a_budget_ends_however_many_requests_have_one_id(edge: Edge, gateway: Gateway):
    # The limit of a minute is out of reach.
    key, (known,) = limited_and_known(edge, [gateway], tokens_per_month=BUDGET, tokens_per_minute=1_000_000)
    request_id, answers = str(uuid.uuid4()), [known]
    with httpx.Client(verify=False, headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
        # Twice what the budget pays for: without its end all would be answered.
        for number in range(2 * BUDGET // TOKENS):
            answer = ask(client, gateway, request_id, f"Question {number % 5}")
            if answer.status_code != 200:
                break
            answers.append(answer)
        refused = (answer.status_code, answer.json().get("error", {}).get("code"))
    assert refused == (429, "insufficient_quota")
    made = sum(answer.json()["usage"]["total_tokens"] for answer in answers)
    assert len(answers) > 1
    assert made <= BUDGET
    lines = exported(edge, key)
    assert sum(line.prompt_tokens + line.completion_tokens for line in lines) == made
    assert [line.request_id for line in lines].count(request_id) == 1
    assert len({line.request_id for line in lines}) == len(lines) == len(answers)
