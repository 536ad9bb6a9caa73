"""Answers of the real engine, computed again from their receipts; and texts and receipts that were falsified (promise 4)."""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from trivium_client import Trivium
from trivium_client.answers import Sampling
from trivium_client.replays import Difference

from gateway.replaying.judging import TOLERANCE_NATS
from services.ops.supervisor import Suite
from tests.generating import adapter_files
from tests.harness.wording import missing
from tests.integration.command_line import trivium
from tests.integration.gateway.stock import Served, metadata, serve
from tests.load.marked import MarkedAdapter
from tests.tiny_model import TOOL_TEMPLATE

GREEDY = chat_pb2.Sampling(max_tokens=8, temperature=0.0, logprobs=5)
TURNS = [{"role": "user", "content": "What is the capital of France?"}]
# The token that is falsified, from 0.
AT = 4
QUESTION = "How much is a day ticket for an adult?"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Zug"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Given:
    """A chat's answer as its caller got it."""

    request_id: str
    text: str
    tokens: tuple[chat_pb2.TokenLogprob, ...]
    receipt: receipt_pb2.Receipt

    def rival(self) -> chat_pb2.TokenLogprob:
        """Of the likeliest tokens at one place the last that no likelier one begins."""
        told = list(self.tokens[AT].top)
        return next(
            other
            for place, other in reversed(list(enumerate(told)))
            if not any(other.token.startswith(likelier.token) for likelier in told[:place])
        )

    @property
    def changed(self) -> str:
        """Its text up to there, and then that token."""
        said = "".join(token.token for token in self.tokens[:AT])
        assert self.text.startswith(said)
        return said + str(self.rival().token)


@pytest.fixture(scope="module")
def client(suite: Suite) -> Iterator[Trivium]:
    with suite.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def given(suite: Suite) -> Given:
    """Eight tokens about a capital."""
    request_id = str(uuid.uuid4())
    turns = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=TURNS[0]["content"])]
    request = gateway_pb2.ChatRequest(messages=turns, sampling=GREEDY, request_id=request_id)
    with grpc.insecure_channel(suite.addresses["gateway"]) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        *deltas, last = stub.Chat(request, metadata=metadata(suite.api_key), timeout=240)
    tokens = tuple(token for event in deltas for token in event.delta.logprobs)
    return Given(request_id, "".join(event.delta.text for event in deltas), tokens, last.final.receipt)


def recorded(suite: Suite, receipt: receipt_pb2.Receipt) -> str:
    """Has access keep a receipt under an id of its own, which it has no means to doubt; the id."""
    forged = receipt_pb2.Receipt()
    forged.CopyFrom(receipt)
    forged.request_id = str(uuid.uuid4())
    with grpc.insecure_channel(suite.addresses["access"]) as channel:
        record = access_pb2.UsageRecord(tenant="default", principal="somebody", receipt=forged)
        request = access_pb2.RecordUsageRequest(record=record)
        access_pb2_grpc.AccessServiceStub(channel).RecordUsage(
            request, metadata=metadata(suite.service_key), timeout=30
        )
    return forged.request_id


def test_the_command_says_exact_of_an_answer_and_what_made_it(suite: Suite, given: Given, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(json.dumps({"messages": TURNS}))
    (tmp_path / "answer.txt").write_text(given.text)
    files = ("--request", str(tmp_path / "request.json"), "--answer", str(tmp_path / "answer.txt"))
    ran = trivium(suite, "replay", given.request_id, *files)
    assert (ran.code, ran.out.splitlines()[0].partition(":")[0]) == (0, "exact"), ran.out + ran.err
    told: dict[str, str] = dict(line.split(None, 1) for line in ran.out.splitlines()[1:])
    assert told["base"] == given.receipt.base_digest
    assert told["tokens"] == given.receipt.completion_digest
    assert told["engine"] == given.receipt.engine_build


def test_an_answer_from_sources_is_computed_again_from_them(client: Trivium, collection: str) -> None:
    short = Sampling(max_tokens=16, temperature=0.0)
    answer = client.answer(QUESTION, collections=[collection], sampling=short)
    request = {"question": QUESTION, "collections": [collection]}
    found = client.replay(answer.final.receipt.request_id, request, answer=answer.text)
    assert found.verdict == "exact", found.explanation
    assert [source.span for source in found.sources] == [source.span for source in answer.sources]
    assert [source.text for source in found.sources] == [source.text for source in answer.sources]
    assert found.sources[0].span.document == "fares.md"
    (now,) = found.collections
    assert (now.collection, now.version, now.present_version) == (collection, now.version, now.version)
    assert [it.version for it in answer.final.receipt.collections] == [now.version]


def test_a_replay_says_that_the_collection_has_moved_on_and_stays_what_it_was(
    suite: Suite, client: Trivium, collection: str, tmp_path: Path
) -> None:
    answer = client.answer(QUESTION, collections=[collection], sampling=Sampling(max_tokens=8, temperature=0.0))
    with grpc.insecure_channel(suite.addresses["retriever"]) as channel:
        seen = retriever_pb2.UpdateDocumentRequest(
            collection=collection, document="fog.md", metadata={"seen": answer.final.receipt.request_id}
        )
        retriever_pb2_grpc.RetrieverServiceStub(channel).UpdateDocument(
            seen, metadata=metadata(suite.api_key), timeout=30
        )
    (tmp_path / "request.json").write_text(json.dumps({"question": QUESTION, "collections": [collection]}))
    asked = ("--request", str(tmp_path / "request.json"))
    ran = trivium(suite, "replay", answer.final.receipt.request_id, *asked)
    assert (ran.code, ran.out.splitlines()[0].partition(":")[0]) == (0, "exact"), ran.out + ran.err
    (then,) = answer.final.receipt.collections
    (told,) = [line for line in ran.out.splitlines() if line.startswith(f"{collection} at version")]
    assert told.startswith(f"{collection} at version {then.version}, which has moved on since, to ")


@pytest.fixture(scope="module")
def speaking(suite: Suite, marked: MarkedAdapter) -> Served:
    """An adapter that brings a template of its own along, which has tools."""
    files = {**adapter_files(marked), "chat_template.jinja": TOOL_TEMPLATE.encode()}
    return serve(suite, "replayed-voice", files)


def posted(suite: Suite, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What the HTTP door answers."""
    headers = {"authorization": f"Bearer {suite.api_key}"}
    answer = httpx.post(f"{suite.http}/v1{path}", json=body, headers=headers, timeout=240)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def held(suite: Suite, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Asks over HTTP, and holds the answer against its receipt over HTTP; the answer."""
    answer = posted(suite, path, body)
    receipt, (choice,) = answer["trivium"]["receipt"], answer["choices"]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    told = {} if text is None else {"answer": text}
    found = posted(suite, "/trivium/replays", {"request_id": receipt["request_id"], "request": body, **told})
    assert found["verdict"] == "exact", found["explanation"]
    assert found["receipt"] == receipt
    assert found["replayed"]["version"] == receipt["version"]
    assert found["replayed"]["completion_digest"] == receipt["completion_digest"]
    return answer


def test_answers_over_http_are_replayed_over_http(suite: Suite, collection: str) -> None:
    question = [{"role": "user", "content": QUESTION}]
    held(suite, "/completions", {"model": "base", "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0})
    asked = {"model": "base", "messages": question, "max_tokens": 8, "temperature": 0}
    answer = held(suite, "/chat/completions", {**asked, "trivium": {"collection": collection}})
    (searched,) = answer["trivium"]["receipt"]["collections"]
    assert searched["collection"] == collection


def test_a_stored_response_is_computed_again_by_its_id_alone(suite: Suite, collection: str) -> None:
    search = {"type": "file_search", "vector_store_ids": [collection]}
    asked = {"model": "base", "tools": [search], "max_output_tokens": 8, "temperature": 0}
    first = posted(suite, "/responses", {**asked, "input": QUESTION})
    second = posted(suite, "/responses", {**asked, "input": "And for a child?", "previous_response_id": first["id"]})
    ran = trivium(suite, "replay", second["id"])
    assert (ran.code, ran.out.splitlines()[0].partition(":")[0]) == (0, "exact"), ran.out + ran.err
    # The text that is stored is held against it, not the digest of its tokens alone.
    assert "this text" in ran.out.splitlines()[0]


def test_an_adapters_answer_and_its_calls_of_tools_are_computed_again_by_its_version(
    suite: Suite, speaking: Served
) -> None:
    asked = {"model": speaking.model, "messages": TURNS, "max_tokens": 64, "temperature": 0, "tools": [WEATHER]}
    answer = held(suite, "/chat/completions", {**asked, "tool_choice": "required", "parallel_tool_calls": False})
    assert answer["trivium"]["version"] == speaking.version
    message = answer["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Zug"}
    turns = [*TURNS, message, {"role": "tool", "tool_call_id": call["id"], "content": "Fog."}]
    after = held(suite, "/chat/completions", {**asked, "messages": turns, "tool_choice": "none", "max_tokens": 4})
    assert after["trivium"]["receipt"]["version"] == speaking.version
    assert after["choices"][0]["message"]["content"]


def test_several_prompts_are_computed_again_as_one_answer(client: Trivium) -> None:
    texts = ["The capital of France is", "The capital of Japan is"]
    answer = client.continuation(texts, sampling=Sampling(max_tokens=2))
    assert len(answer.texts) == 2
    found = client.replay(answer.final.receipt.request_id, {"prompts": [{"text": text} for text in texts]})
    assert found.verdict == "exact", found.explanation
    other = client.replay(answer.final.receipt.request_id, {"prompts": [{"text": text} for text in reversed(texts)]})
    assert other.verdict == "prompt_differs"


def test_a_changed_text_is_told_with_the_rank_and_margin_of_its_token(client: Trivium, given: Given) -> None:
    found = client.replay(given.request_id, {"messages": TURNS}, answer=given.changed)
    assert found.verdict == "different"
    assert "changed" in found.explanation
    _require_the_rival(found.differences, given)


def test_a_receipt_of_other_tokens_is_no_receipt_of_this_text(suite: Suite, client: Trivium, given: Given) -> None:
    forged = receipt_pb2.Receipt()
    forged.CopyFrom(given.receipt)
    forged.completion_digest = "sha256:" + "0" * 64
    found = client.replay(recorded(suite, forged), {"messages": TURNS}, answer=given.text)
    assert found.verdict == "undecided"
    assert not missing(found.explanation, "tokens", "receipt")


def test_a_false_text_without_a_digest_is_told_by_rank_and_margin(suite: Suite, client: Trivium, given: Given) -> None:
    forged = receipt_pb2.Receipt()
    forged.CopyFrom(given.receipt)
    forged.completion_digest = ""
    request_id = recorded(suite, forged)
    found = client.replay(request_id, {"messages": TURNS}, answer=given.changed)
    assert found.verdict == "different", found.explanation
    _require_the_rival(found.differences, given)


def test_a_receipt_of_another_prompt_is_told_and_nothing_is_generated(client: Trivium, given: Given) -> None:
    asked = {"messages": [{"role": "user", "content": "What is the capital of Spain?"}]}
    found = client.replay(given.request_id, asked, answer=given.text)
    assert (found.verdict, found.replayed) == ("prompt_differs", None)


def _require_the_rival(differences: Sequence[Difference], given: Given) -> None:
    (last,) = differences
    made, rival = given.tokens[AT], given.rival()
    rank = 1 + [other.token_id for other in made.top].index(rival.token_id)
    assert last.made is not None
    assert last.rival is not None
    assert last.margin is not None
    assert (last.position, last.made.token, last.rival.token, last.rank) == (AT, made.token, rival.token, rank)
    assert last.margin == pytest.approx(made.logprob - rival.logprob, abs=TOLERANCE_NATS)
    assert last.margin > TOLERANCE_NATS
