"""Ask: what a citation, a receipt, a replay and a hang-up promise (promises 2, 3, 4 and 9)."""

import uuid
from typing import Any

import grpc
import httpx
import httpx2
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc

from services.chassis.status import from_rpc_error
from services.ops.supervisor import Suite
from tests.impatience import Impatient
from tests.integration.gateway.stock import DOCUMENTS, Served, metadata
from tests.stack import eventually

QUESTION = "How much is a day ticket for an adult?"
SHORT = chat_pb2.Sampling(max_tokens=16)
# Far longer than any of these tests waits.
LONG = chat_pb2.Sampling(max_tokens=1500)
ENDLESS = chat_pb2.StructuredOutput(regex="(ferry ){1000}")
ENDLESS_CHAT = {
    "model": "base",
    "messages": [{"role": "user", "content": "Go on."}],
    "max_tokens": LONG.max_tokens,
    "trivium": {"regex": ENDLESS.regex},
}
# Tokens that the slowest machine generates until the engine learns that the caller hung up.
MOST_TOKENS = LONG.max_tokens // 2


@pytest.fixture(scope="module")
def gateway(suite: Suite):
    with grpc.insecure_channel(suite.addresses["gateway"]) as channel:
        yield gateway_pb2_grpc.GatewayServiceStub(channel)


def ask(gateway, suite, collection, **fields):
    request = gateway_pb2.AskRequest(question=QUESTION, collections=[collection], sampling=SHORT)
    request.MergeFrom(gateway_pb2.AskRequest(**fields))
    return list(gateway.Ask(request, metadata=metadata(suite.api_key), timeout=240))


def usage(suite: Suite) -> list[access_pb2.UsageRecord]:
    """What the tenant's last requests used."""
    with grpc.insecure_channel(suite.addresses["access"]) as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)
        request = access_pb2.ListUsageRequest(page_size=1000)
        return list(stub.ListUsage(request, metadata=metadata(suite.api_key), timeout=30).records)


def test_every_source_is_the_exact_characters_of_a_stored_version(gateway, suite: Suite, collection: str) -> None:
    first, *_ = ask(gateway, suite, collection)
    with grpc.insecure_channel(suite.addresses["retriever"]) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        for number, source in enumerate(first.sources.sources, start=1):
            span = source.span
            assert span.marker == number
            request = retriever_pb2.GetDocumentTextRequest(
                collection=span.collection,
                document=span.document,
                version=span.version,
                start=span.start,
                end=span.end,
            )
            stored = stub.GetDocumentText(request, metadata=metadata(suite.api_key), timeout=30)
            assert stored.text == source.text
            assert source.text in DOCUMENTS[span.document]


def test_a_forced_citation_resolves_and_a_forged_one_does_not(gateway, suite: Suite, collection: str) -> None:
    choice = chat_pb2.StructuredOutput(choice=chat_pb2.Choices(values=["Nine crowns [1], not [9]."]))
    sources, *_, last = ask(gateway, suite, collection, structured_output=choice)
    (citation,) = last.final.citations
    assert citation.span == sources.sources.sources[0].span
    assert (citation.answer_start, citation.answer_end) == (12, 15)
    assert list(last.final.unresolved_markers) == [9]


def test_every_stage_is_timed_in_its_order(gateway, suite: Suite, collection: str) -> None:
    *_, last = ask(gateway, suite, collection)
    stages = [timing.stage for timing in last.final.timings]
    expected = ["resolve", "embed", "retrieve", "prompt", "generate", "verify"]
    assert [stage for stage in stages if stage in expected] == expected
    prompt = next(timing for timing in last.final.timings if timing.stage == "prompt")
    assert prompt.input_size == last.final.usage.prompt_tokens


def test_the_receipt_is_kept_before_the_answer_ends(gateway, suite: Suite, collection: str, adapter: Served) -> None:
    sources, *_, last = ask(gateway, suite, collection, model=adapter.model)
    receipt = last.final.receipt
    assert receipt.version_digest == adapter.version
    assert list(receipt.sources) == [source.span for source in sources.sources.sources]
    request = gateway_pb2.GetReceiptRequest(request_id=receipt.request_id)
    assert gateway.GetReceipt(request, metadata=metadata(suite.api_key), timeout=30).receipt == receipt


def test_what_is_asked_again_under_its_id_draws_the_same_chance_and_each_computation_is_recorded(
    gateway, suite: Suite, collection: str
) -> None:
    request_id = str(uuid.uuid4())
    chance = chat_pb2.Sampling(max_tokens=16, temperature=1.0)
    answers = [ask(gateway, suite, collection, request_id=request_id, sampling=chance) for _ in range(2)]
    texts = ["".join(event.delta.text for event in events) for events in answers]
    seeds = {events[-1].final.receipt.sampling.seed for events in answers}
    assert len(seeds) == 1
    assert texts[0] == texts[1]
    first, again = sorted(it.request_id for it in usage(suite) if it.request_id.startswith(request_id))
    assert first == request_id
    assert again.startswith(f"{request_id}~again-")


def test_without_a_collection_it_is_a_plain_answer(gateway, suite: Suite) -> None:
    request = gateway_pb2.AskRequest(question="What is the capital of France?", sampling=SHORT)
    first, *_, last = gateway.Ask(request, metadata=metadata(suite.api_key), timeout=240)
    assert first.WhichOneof("part") == "sources"
    assert not first.sources.sources
    chat = gateway_pb2.ChatRequest(
        messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=request.question)], sampling=SHORT
    )
    *_, plain = gateway.Chat(chat, metadata=metadata(suite.api_key), timeout=240)
    assert last.final.receipt.prompt_tokens_digest == plain.final.receipt.prompt_tokens_digest


def hang_up_on_grpc(suite: Suite) -> None:
    with grpc.insecure_channel(suite.addresses["gateway"]) as channel:
        request = gateway_pb2.AskRequest(question="Go on.", sampling=LONG, structured_output=ENDLESS)
        call = gateway_pb2_grpc.GatewayServiceStub(channel).Ask(request, metadata=metadata(suite.api_key), timeout=240)
        next(event for event in call if event.WhichOneof("part") == "delta")
        call.cancel()


def hang_up_on_http(suite: Suite) -> None:
    """A stream is left after its first text."""
    headers = dict(metadata(suite.api_key))
    with (
        httpx.Client(base_url=suite.http, timeout=240) as client,
        client.stream("POST", "/v1/chat/completions", json={**ENDLESS_CHAT, "stream": True}, headers=headers) as answer,
    ):
        # The first event opens the turn, the second has text.
        lines = (line for line in answer.iter_lines() if line)
        next(lines), next(lines)


def hang_up_on_http_before_the_answer(suite: Suite) -> None:
    """A whole answer is not waited for, once the engine has made some of it."""

    def begun() -> None:
        eventually(lambda: busy(suite), "the engine answers")
        # It joins that in the engine, and comes to the gateway behind the first tokens of that.
        with grpc.insecure_channel(suite.addresses["gateway"]) as channel:
            request = gateway_pb2.AskRequest(question="Go on.", sampling=chat_pb2.Sampling(max_tokens=4))
            list(
                gateway_pb2_grpc.GatewayServiceStub(channel).Ask(request, metadata=metadata(suite.api_key), timeout=240)
            )

    with Impatient(begun).client() as client, pytest.raises(httpx2.ReadTimeout):
        client.post(
            f"{suite.http}/v1/chat/completions", json=ENDLESS_CHAT, headers=dict(metadata(suite.api_key)), timeout=240
        )


def busy(suite: Suite) -> int:
    """How many requests the engines have."""
    with grpc.insecure_channel(suite.addresses["generator"]) as channel:
        stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        request = generator_pb2.ListEnginesRequest()
        engines = stub.ListEngines(request, metadata=metadata(suite.api_key), timeout=60).engines
        return sum(engine.running + engine.waiting for engine in engines)


@pytest.mark.parametrize(
    "hang_up",
    [hang_up_on_grpc, hang_up_on_http, hang_up_on_http_before_the_answer],
    ids=["grpc", "http events", "http"],
)
def test_a_caller_who_hangs_up_stops_the_engine_and_what_it_used_is_recorded(suite: Suite, hang_up) -> None:
    before = {record.request_id for record in _cancelled(suite)}
    eventually(lambda: not busy(suite), "nothing else runs")
    hang_up(suite)
    # How soon is seen by what was made: all of it would take minutes.
    eventually(lambda: not busy(suite), "the engine stops")
    eventually(lambda: len(_cancelled(suite)) > len(before), "what it used is recorded")
    (newest,) = [record for record in _cancelled(suite) if record.request_id not in before]
    assert newest.receipt.usage.prompt_tokens > 0
    assert 0 < newest.receipt.usage.completion_tokens < MOST_TOKENS


def _cancelled(suite: Suite) -> list[access_pb2.UsageRecord]:
    return [record for record in usage(suite) if "~cancelled-" in record.request_id]


def test_another_tenants_collection_model_and_receipt_are_not_there(
    gateway, suite: Suite, collection: str, adapter: Served
) -> None:
    *_, last = ask(gateway, suite, collection, model=adapter.model)
    stranger = metadata(_key_of_new_tenant(suite))
    calls = {
        "COLLECTION_NOT_FOUND": lambda: list(
            gateway.Ask(
                gateway_pb2.AskRequest(question=QUESTION, collections=[collection]), metadata=stranger, timeout=60
            )
        ),
        "MODEL_NOT_FOUND": lambda: gateway.ExplainRoute(
            gateway_pb2.ExplainRouteRequest(model=f"{adapter.model}@{adapter.version}"),
            metadata=stranger,
            timeout=60,
        ),
        "RECEIPT_NOT_FOUND": lambda: gateway.GetReceipt(
            gateway_pb2.GetReceiptRequest(request_id=last.final.receipt.request_id), metadata=stranger, timeout=60
        ),
    }
    for reason, call in calls.items():
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert from_rpc_error(refused.value).reason == reason
    listed = gateway.ListModels(gateway_pb2.ListModelsRequest(), metadata=stranger, timeout=60).models
    # What is the deployment's own.
    assert {model.name for model in listed} == {"base", "all-minilm-l6-v2"}


def _key_of_new_tenant(suite: Suite) -> str:
    tenant = f"gateway-{uuid.uuid4().hex[:8]}"
    call: dict[str, Any] = {"metadata": metadata(suite.api_key), "timeout": 30}
    with grpc.insecure_channel(suite.addresses["access"]) as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)
        stub.CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant), **call)
        request = access_pb2.CreateKeyRequest(tenant=tenant, roles=[access_pb2.ROLE_OWNER])
        return stub.CreateKey(request, **call).api_key
