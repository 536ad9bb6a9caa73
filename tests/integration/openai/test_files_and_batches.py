"""The unmodified official client uploads a file of requests, has it run as a batch, and reads the file of the answers."""

import json
from typing import Any, Literal

import grpc
import openai
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import metadata
from tests.stack import eventually

ENCODER = "all-minilm-l6-v2"


@pytest.fixture(scope="module")
def client(suite: Suite):
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=240, max_retries=0) as opened:
        yield opened


def line(custom_id: str, **body: Any) -> bytes:
    messages = [{"role": "user", "content": "What is the capital of Japan?"}]
    whole = {"model": "base", "messages": messages, "max_tokens": 4, "temperature": 0, **body}
    return requested(custom_id, "/v1/chat/completions", whole)


def requested(custom_id: str, url: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode() + b"\n"


def ended(client: openai.OpenAI, batch: str) -> Any:
    def look() -> Any:
        found = client.batches.retrieve(batch)
        return found if found.status in ("completed", "failed", "expired", "cancelled") else None

    found = eventually(look, "the batch ends", 240)
    assert found.status == "completed", found
    return found


def answers(client: openai.OpenAI, file: str | None) -> list[dict[str, Any]]:
    assert file is not None
    return [json.loads(text) for text in client.files.content(file).text.splitlines()]


def test_a_file_of_requests_becomes_a_file_of_answers_each_with_its_receipt(
    client: openai.OpenAI, suite: Suite
) -> None:
    content = line("one") + line("two", max_tokens=2) + line("bad", model="no-such-model")
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "test"}
    )

    found = ended(client, made.id)
    assert (found.request_counts.total, found.request_counts.completed, found.request_counts.failed) == (3, 2, 1)
    lines = answers(client, found.output_file_id)
    assert [each["custom_id"] for each in lines] == ["one", "two"]
    for each, tokens in zip(lines, (4, 2), strict=True):
        completion = openai.types.chat.ChatCompletion.model_validate(each["response"]["body"])
        assert completion.choices[0].message.content
        assert completion.usage is not None
        assert completion.usage.completion_tokens <= tokens
    assert found.usage.output_tokens == sum(each["response"]["body"]["usage"]["completion_tokens"] for each in lines)
    (error,) = answers(client, found.error_file_id)
    assert (error["custom_id"], error["response"]["body"]["error"]["code"]) == ("bad", "model_not_found")
    # What a line used is recorded as any request is, under the id that its answer names.
    with grpc.insecure_channel(suite.addresses["access"]) as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)
        for each in lines:
            request = access_pb2.GetReceiptRequest(request_id=each["response"]["request_id"])
            receipt = stub.GetReceipt(request, metadata=metadata(suite.api_key), timeout=60).receipt
            assert receipt.usage.completion_tokens == each["response"]["body"]["usage"]["completion_tokens"]
    # As long as the file of the requests is there, a line is computed again by its id alone.
    named = {"request_id": lines[0]["id"]}
    replay: Any = client.post("/trivium/replays", body=named, cast_to=object)
    assert replay["verdict"] == "exact", replay["explanation"]
    assert replay["text"] == lines[0]["response"]["body"]["choices"][0]["message"]["content"]
    client.files.delete(file.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/trivium/replays", body=named, cast_to=object)
    assert refused.value.code == "request_not_kept"


def test_embeddings_and_responses_are_asked_in_batches_too(client: openai.OpenAI) -> None:
    asked = {"model": "base", "input": "What is the capital of Japan?", "max_output_tokens": 4, "temperature": 0}
    bodies: dict[Literal["/v1/embeddings", "/v1/responses"], list[dict[str, Any]]] = {
        "/v1/embeddings": [{"model": ENCODER, "input": ["fares", "fog"]}, {"model": "no-such-model", "input": "fog"}],
        "/v1/responses": [asked, {**asked, "tools": [{"type": "web_search"}]}],
    }
    begun = {}
    for url, (good, bad) in bodies.items():
        content = requested("good", url, good) + requested("bad", url, bad)
        file = client.files.create(file=("requests.jsonl", content), purpose="batch").id
        begun[url] = client.batches.create(input_file_id=file, endpoint=url, completion_window="24h").id
    told = {url: ended(client, batch) for url, batch in begun.items()}
    for found in told.values():
        counts = found.request_counts
        assert (counts.total, counts.completed, counts.failed) == (2, 1, 1)
        (refused,) = answers(client, found.error_file_id)
        assert (refused["custom_id"], refused["response"]["status_code"] >= 400) == ("bad", True)
    (embedded,) = answers(client, told["/v1/embeddings"].output_file_id)
    vectors = openai.types.CreateEmbeddingResponse.model_validate(embedded["response"]["body"])
    alone = client.embeddings.create(model=ENCODER, input=["fares", "fog"], encoding_format="float")
    assert [item.embedding for item in vectors.data] == [item.embedding for item in alone.data]
    (responded,) = answers(client, told["/v1/responses"].output_file_id)
    response = openai.types.responses.Response.construct(**responded["response"]["body"])
    assert response.output_text
    assert response.usage is not None
    assert told["/v1/responses"].usage.output_tokens == response.usage.output_tokens > 0
