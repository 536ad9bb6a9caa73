"""Embeddings count: towards the limits of whoever asks, and in the records of what was used."""

import uuid
from typing import Any

import grpc
import httpx
from trivium.access.v1 import access_pb2
from trivium.embedder.v1 import embedder_pb2
from trivium.gateway.v1 import embeddings_pb2, embeddings_pb2_grpc

from tests.front import Front, Visitor
from tests.stack import Api, refused

MODEL = "all-minilm-l6-v2"
TEXTS = ["A single crossing costs six crowns.", "The fog horn sounds twice."]


def limited(front: Front, **limits: Any) -> str:
    """The key of a new tenant under limits."""
    tenant = front.stack.tenant()
    admin = front.stack.access_api(front.stack.key("admin"))
    admin.UpdateQuota(access_pb2.UpdateQuotaRequest(tenant=tenant, quota=access_pb2.Quota(**limits)))
    return str(front.stack.tenant_key(tenant))


def embed(front: Front, key: str, model: str = "") -> embeddings_pb2.CreateEmbeddingsResponse:
    request = embeddings_pb2.CreateEmbeddingsRequest(request=embedder_pb2.EmbedRequest(model=model, texts=TEXTS))
    with grpc.insecure_channel(front.process.address) as channel:
        answer: embeddings_pb2.CreateEmbeddingsResponse = Api(
            embeddings_pb2_grpc.EmbeddingServiceStub(channel), key
        ).CreateEmbeddings(request)
        return answer


def test_what_was_embedded_is_recorded_before_it_is_answered(front: Front, visitor: Visitor) -> None:
    by_http = visitor.ask("POST", "/embeddings", {"model": MODEL, "input": TEXTS}).json()
    by_grpc = embed(front, visitor.key)
    records = front.stack.access_api(visitor.key).ListUsage(access_pb2.ListUsageRequest()).records
    later, sooner = (record.receipt for record in records)
    spent = by_http["usage"]["prompt_tokens"]
    assert spent == sum(by_grpc.token_counts) > 0
    for receipt in (sooner, later):
        assert (receipt.usage.prompt_tokens, receipt.usage.completion_tokens) == (spent, 0)
        # What was asked for by no name is recorded under the name that it has.
        assert receipt.requested_model == receipt.resolved_model == MODEL
        assert receipt.version_digest == by_grpc.model_digest
        assert uuid.UUID(receipt.request_id)
    assert [record.method for record in records] == [
        "/trivium.gateway.v1.EmbeddingService/CreateEmbeddings",
        "/v1/embeddings",
    ]


def test_embeddings_are_held_to_the_limits_at_both_doors(front: Front) -> None:
    key = limited(front, requests_per_minute=1)
    body = {"model": MODEL, "input": "Hello"}
    headers = {"authorization": f"Bearer {key}"}
    first = httpx.post(f"{front.http}/embeddings", json=body, headers=headers, timeout=60)
    assert (first.status_code, first.headers["x-ratelimit-limit-requests"]) == (200, "1")
    again = httpx.post(f"{front.http}/embeddings", json=body, headers=headers, timeout=60)
    assert (again.status_code, again.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    with refused("RATE_LIMIT_EXCEEDED"):
        embed(front, key)


def test_a_month_that_embeddings_used_up_is_over_for_all(front: Front) -> None:
    key = limited(front, tokens_per_month=30)
    embed(front, key, MODEL)
    with refused("INSUFFICIENT_QUOTA"):
        embed(front, key, MODEL)
