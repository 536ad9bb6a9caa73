"""Answers of the real engine, computed again from their receipts; and texts and receipts that were falsified (promise 4)."""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium_client import Trivium
from trivium_client.answers import Sampling
from trivium_client.replays import Difference

from gateway.replaying.judging import TOLERANCE_NATS
from services.ops.supervisor import Suite
from tests.integration.command_line import trivium
from tests.integration.gateway.stock import metadata

GREEDY = chat_pb2.Sampling(max_tokens=8, temperature=0.0, logprobs=5)
TURNS = [{"role": "user", "content": "What is the capital of France?"}]
# The token that is falsified, from 0.
AT = 4
QUESTION = "How much is a day ticket for an adult?"


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
        request = access_pb2.RecordUsageRequest(record=access_pb2.UsageRecord(receipt=forged))
        access_pb2_grpc.AccessServiceStub(channel).RecordUsage(request, metadata=metadata(suite.api_key), timeout=30)
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
    assert "not by the tokens that the receipt records" in found.explanation


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
