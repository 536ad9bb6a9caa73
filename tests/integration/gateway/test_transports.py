"""gRPC and OpenAI-compatible HTTP are two encodings of one behaviour."""

from collections.abc import Iterator
from dataclasses import replace

import grpc
import httpx
import pytest
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from services.ops.supervisor import Suite
from tests.conformance.runner import TIMEOUT_SECONDS, Grpc, Http, Rejection, Transport, run
from tests.conformance.tables.chat import OPERATIONS, Answer
from tests.conformance.tables.chat_cases import engine_cases
from tests.integration.gateway.stock import Served, metadata
from tests.load.marked import MarkedAdapter

NAMES = [case.name for case in engine_cases("", "", "", "")]
# Natural logarithm.  On processors with AMX a row of a product of bfloat16 has other last bits among other numbers of
# rows, and with how many rows a token shares its step depends on when requests come and on what of the prompt is
# cached.  Of the base, 12 rows behind 128 cached ones moved a probability by 0.072 against 140 rows at once, and an
# answer beside the reading of another's prompt moved one by 0.005.
LOGPROB_NATS = 0.1


@pytest.fixture(scope="module")
def transports(suite: Suite) -> Iterator[dict[str, Transport]]:
    with grpc.insecure_channel(suite.addresses["gateway"]) as channel, httpx.Client(base_url=suite.http) as client:
        yield {
            "grpc": Grpc(channel, suite.api_key),
            "http": Http(client, suite.api_key, stream=False),
            "http events": Http(client, suite.api_key, stream=True),
        }


@pytest.mark.parametrize("name", NAMES)
def test_the_transports_tell_the_same(
    name: str, transports: dict[str, Transport], collection: str, adapter: Served, marked: MarkedAdapter
) -> None:
    known = engine_cases(collection, adapter.model, adapter.version, marked.word)
    case = next(item for item in known if item.name == name)
    run(case, OPERATIONS, transports, _require_the_same)


def test_the_transports_continue_several_prompts_alike(suite: Suite) -> None:
    texts = ("The capital of France is", "The capital of Japan is")
    prompts = [gateway_pb2.RawPrompt(text=texts[0]), gateway_pb2.RawPrompt(text=texts[1])]
    request = gateway_pb2.CompleteRequest(prompts=prompts, sampling=chat_pb2.Sampling(max_tokens=2))
    with grpc.insecure_channel(suite.addresses["gateway"]) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        *events, last = stub.Complete(request, timeout=TIMEOUT_SECONDS, metadata=metadata(suite.api_key))
    told = ["".join(event.delta.text for event in events if event.delta.choice == number) for number in range(2)]
    asked = {"model": "base", "prompt": texts, "max_tokens": 2}
    headers = {"authorization": f"Bearer {suite.api_key}"}
    address = f"{suite.http}/v1/completions"
    answer = httpx.post(address, json=asked, headers=headers, timeout=TIMEOUT_SECONDS).json()
    assert [choice["text"] for choice in answer["choices"]] == told
    used = last.final.usage
    assert answer["usage"]["prompt_tokens"] == used.prompt_tokens
    receipt = answer["trivium"]["receipt"]
    # By their digests both read the same tokens and made the same.
    assert receipt["prompt_tokens_digest"] == last.final.receipt.prompt_tokens_digest
    assert receipt["completion_digest"] == last.final.receipt.completion_digest


def _require_the_same(one: Answer | Rejection, other: Answer | Rejection) -> None:
    """All of it and every token; probabilities to LOGPROB_NATS."""
    if isinstance(one, Answer) and isinstance(other, Answer):
        values = [value for _, value in other.logprobs]
        assert [token for token, _ in one.logprobs] == [token for token, _ in other.logprobs]
        assert [value for _, value in one.logprobs] == pytest.approx(values, rel=0, abs=LOGPROB_NATS)
        one, other = replace(one, logprobs=()), replace(other, logprobs=())
    assert one == other
