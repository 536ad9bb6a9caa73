"""Replays at the gateway's HTTP door, as far as no engine is needed: whose receipt it is, and what cannot be computed again."""

import uuid
from typing import Any

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.common.v1 import chat_pb2, receipt_pb2

from tests.stack import Api

DIGEST = "sha256:" + "a" * 64
CHAT = {"model": "base", "messages": [{"role": "user", "content": "Where to?"}]}


@pytest.fixture
def recorded(front, visitor):
    """Has access keep a receipt of the visitor's; its id."""

    def record(**fields: Any) -> str:
        receipt = receipt_pb2.Receipt(request_id=str(uuid.uuid4()), sampling=chat_pb2.Sampling(max_tokens=8), **fields)
        with grpc.insecure_channel(front.stack.access.address) as channel:
            access = Api(access_pb2_grpc.AccessServiceStub(channel), front.stack.key("service"))
            record = access_pb2.UsageRecord(tenant=visitor.keeper.tenant, principal="somebody", receipt=receipt)
            access.RecordUsage(access_pb2.RecordUsageRequest(record=record))
        return receipt.request_id

    return record


def replayed(visitor, request_id, request=CHAT, **fields):
    return visitor.ask("POST", "/trivium/replays", {"request_id": request_id, "request": request, **fields})


def test_what_no_model_said_is_told_with_its_receipt(visitor, recorded):
    request_id = recorded(requested_model="base")
    answer = replayed(visitor, request_id, answer="There are 3 documents.").json()
    assert (answer["verdict"], answer["replayed"]) == ("undecided", None)
    assert answer["receipt"]["request_id"] == request_id


def test_the_weights_of_a_version_that_is_not_there_are_gone(visitor, recorded):
    request_id = recorded(base_digest=DIGEST, version_digest=DIGEST, resolved_model=f"ghost@{DIGEST}")
    answer = replayed(visitor, request_id).json()
    assert answer["verdict"] == "weights_gone", answer
    assert "ghost" in answer["explanation"]


def test_what_is_neither_brought_nor_stored_is_refused_and_says_what_to_do(visitor, recorded):
    request_id = recorded(base_digest=DIGEST)
    answer = visitor.ask("POST", "/trivium/replays", {"request_id": request_id})
    told = answer.json()["error"]
    assert (answer.status_code, told["code"], told["param"]) == (400, "request_not_kept", "request")
    assert f"trivium replay {request_id} --request FILE" in told["message"]


def test_a_generator_that_is_away_decides_nothing(visitor, recorded):
    answer = replayed(visitor, recorded(base_digest=DIGEST))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "peer_unavailable")


def test_another_tenants_receipt_looks_like_one_that_is_not_there(visitor, front, recorded):
    request_id, other, nobodys = recorded(), front.newcomer(), str(uuid.uuid4())
    answers = [replayed(other, asked) for asked in (request_id, nobodys)]
    assert [answer.status_code for answer in answers] == [404, 404]
    first, second = (
        answer.text.replace(asked, "ID") for answer, asked in zip(answers, (request_id, nobodys), strict=True)
    )
    assert first == second
    assert replayed(visitor, request_id).status_code == 200


def test_a_request_that_cannot_be_the_receipts_is_refused_by_name(visitor, recorded):
    request_id = recorded(base_digest=DIGEST)
    for request, param in (
        ({}, "request"),
        ({"model": "base", "prompt": "x", "echo": True}, "echo"),
        ({**CHAT, "trivium": {"request_id": str(uuid.uuid4())}}, "request"),
        ({"model": "base", "messages": [{"role": "user"}]}, "messages"),
    ):
        answer = replayed(visitor, request_id, request)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"].startswith(param), answer.text
