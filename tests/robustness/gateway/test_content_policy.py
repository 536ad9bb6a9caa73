"""A server of the operator's own judges what a tenant asks and is answered, over both transports."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from trivium.access.v1 import access_pb2, policy_pb2
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium.policy.v1 import policy_pb2 as pb

from tests.edge import Edge
from tests.harness.gateway import Gateway
from tests.judging import Judge, judging
from tests.stack import Api, eventually, refused

WORD = " word"
PROMPT = "How much is a day ticket?"


@pytest.fixture
def judge() -> Iterator[Judge]:
    with judging() as running:
        yield running


def tenant_under(edge: Edge, judge: Judge, **policy: Any) -> str:
    """The key of a new tenant whose content this server judges."""
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    key = edge.tenant_key(tenant)
    wanted = policy_pb2.Policy(endpoint=judge.address, **policy)
    edge.admin.UpdatePolicy(access_pb2.UpdatePolicyRequest(tenant=tenant, policy=wanted))
    return key


def chat(gateway: Gateway, key: str, tokens: int = 3, **fields: Any) -> httpx.Response:
    body = {"model": "base", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": tokens, **fields}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.http}/v1/chat/completions", json=body, headers=headers, timeout=30)


def told(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def final(gateway: Gateway, key: str) -> tuple[str, gateway_pb2.GenerationFinal]:
    """The text and the end of an answer over gRPC."""
    turns = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=PROMPT)]
    request = gateway_pb2.ChatRequest(messages=turns, sampling=chat_pb2.Sampling(max_tokens=3))
    with grpc.insecure_channel(gateway.address) as channel:
        events = list(Api(gateway_pb2_grpc.GatewayServiceStub(channel), key).Chat(request))
    return "".join(event.delta.text for event in events), events[-1].final


def spent(edge: Edge, key: str) -> list[int]:
    """Generated tokens of each record of usage."""
    records = edge.access_api(key).ListUsage(access_pb2.ListUsageRequest()).records
    return [record.receipt.usage.completion_tokens for record in records]


def test_what_is_allowed_is_answered_and_the_judge_hears_it_without_a_credential(
    edge: Edge, gateway: Gateway, judge: Judge
) -> None:
    key = tenant_under(edge, judge)
    assert told(chat(gateway, key)) == WORD * 3
    (prompt,), (part,) = judge.prompts, judge.parts
    assert [turn.content for turn in prompt.messages] == [PROMPT]
    assert prompt.asked == part.asked
    assert prompt.asked.tenant.startswith("t-")
    assert prompt.asked.principal
    assert (part.text, part.before, part.last) == (WORD * 3, "", True)
    assert not judge.metadata & {"authorization", "x-correlation-id", "traceparent"}


def test_a_tenant_without_a_policy_is_judged_by_nobody(edge: Edge, gateway: Gateway, judge: Judge) -> None:
    tenant_under(edge, judge)
    assert told(chat(gateway, edge.tenant_key(f"t-{uuid.uuid4().hex[:12]}"))) == WORD * 3
    assert not judge.prompts
    assert not judge.parts


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
        ("completions", {"prompt": PROMPT}),
        ("responses", {"input": PROMPT, "store": False}),
    ],
)
def test_a_refused_prompt_never_reaches_a_model_and_its_caller_is_told_why(
    edge: Edge, gateway: Gateway, judge: Judge, path: str, body: dict[str, Any]
) -> None:
    judge.of_prompt = lambda _: pb.Refuse(reason="Fares are not discussed here.")
    key = tenant_under(edge, judge)
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{gateway.http}/v1/{path}", json={"model": "base", **body}, headers=headers, timeout=30)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (403, "content_refused", "permission_error")
    assert "Fares are not discussed here." in error["message"]
    assert "retry-after" not in answer.headers
    assert [turn.content for turn in judge.prompts[0].messages] == [PROMPT]
    assert not judge.parts
    assert spent(edge, key) == []


def test_a_question_to_sources_is_judged_before_anything_is_looked_up(
    edge: Edge, gateway: Gateway, judge: Judge
) -> None:
    judge.of_prompt = lambda _: pb.Refuse(reason="No.")
    request = gateway_pb2.AskRequest(question=PROMPT, collections=["fares"], instructions="Be brief.")
    with grpc.insecure_channel(gateway.address) as channel, refused("CONTENT_REFUSED") as failures:
        list(Api(gateway_pb2_grpc.GatewayServiceStub(channel), tenant_under(edge, judge)).Ask(request))
    assert failures[0].code.name == "PERMISSION_DENIED"
    assert [turn.content for turn in judge.prompts[0].messages] == ["Be brief.", PROMPT]


def test_what_is_replaced_leaves_as_it_was_replaced_and_the_response_says_so(
    edge: Edge, gateway: Gateway, judge: Judge
) -> None:
    judge.of_prompt = lambda _: pb.Replace(text="How much is [a ticket]?", reason="names are taken out")
    judge.of_part = lambda part: pb.Replace(text=part.text.upper(), reason="louder")
    text, end = final(gateway, tenant_under(edge, judge))
    assert text == WORD.upper() * 3
    noted = [(item.stage, item.instead, item.reason) for item in end.fallbacks]
    assert noted == [
        ("policy", "another prompt", "names are taken out"),
        ("policy", "another text in the answer", "louder"),
    ]


def test_a_response_says_what_was_replaced_in_it(edge: Edge, gateway: Gateway, judge: Judge) -> None:
    judge.of_part = lambda part: pb.Replace(text=part.text.upper(), reason="louder")
    body = {"model": "base", "input": PROMPT, "store": False, "max_output_tokens": 3}
    headers = {"authorization": f"Bearer {tenant_under(edge, judge)}"}
    answer = httpx.post(f"{gateway.http}/v1/responses", json=body, headers=headers, timeout=30).json()
    assert answer["output"][0]["content"][0]["text"] == WORD.upper() * 3
    assert answer["trivium"]["fallbacks"] == [
        {"stage": "policy", "instead": "another text in the answer", "reason": "louder"}
    ]


def test_an_answer_that_is_refused_in_the_middle_ends_there_and_is_charged_for(
    edge: Edge, gateway: Gateway, judge: Judge
) -> None:
    judge.of_part = lambda part: pb.Refuse(reason="Enough.") if part.before else pb.Allow()
    key = tenant_under(edge, judge, answers=policy_pb2.ANSWER_CHECK_PIECES)
    # Without ends of sentences a piece is as long as one may wait; there are several of them in this answer.
    answer = chat(gateway, key, tokens=3000, stream=True)
    assert answer.status_code == 200
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event.get("choices"))
    assert text == judge.parts[0].text
    assert text == judge.parts[1].before[-len(text) :]
    assert (events[-1]["error"]["code"], "Enough." in events[-1]["error"]["message"]) == ("content_refused", True)
    assert "[DONE]" not in answer.text
    assert len(judge.parts) == 2
    eventually(lambda: len(spent(edge, key)) == 1, "what was generated is recorded")
    assert spent(edge, key)[0] >= 2 * len(text) // len(WORD)


def test_an_answer_that_is_judged_whole_does_not_begin_to_leave_before(
    edge: Edge, gateway: Gateway, judge: Judge
) -> None:
    judge.of_part = lambda _: pb.Refuse(reason="Not this.")
    key = tenant_under(edge, judge, answers=policy_pb2.ANSWER_CHECK_WHOLE)
    answer = chat(gateway, key, tokens=900, stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "content_refused")
    (part,) = judge.parts
    assert (part.text, part.last) == (WORD * 900, True)
    eventually(lambda: spent(edge, key) == [900], "what was generated is recorded")


@pytest.mark.parametrize("how", ["silent", "verdictless", "away"])
@pytest.mark.parametrize("failure", ["closed", "open"])
def test_without_a_verdict_the_policy_says_whether_a_text_passes(
    edge: Edge, gateway: Gateway, judge: Judge, how: str, failure: str
) -> None:
    word = policy_pb2.POLICY_FAILURE_OPEN if failure == "open" else policy_pb2.POLICY_FAILURE_CLOSED
    if how == "silent":
        judge.awake.clear()
    if how == "verdictless":
        judge.of_prompt = lambda _: None
        judge.of_part = lambda _: None
    if how == "away":
        judge.address = "127.0.0.1:9"
    key = tenant_under(edge, judge, failure=word, timeout_ms=200)
    if failure == "open":
        text, end = final(gateway, key)
        assert text == WORD * 3
        assert {(item.stage, item.instead) for item in end.fallbacks} == {
            ("policy", "the prompt without a verdict of the content policy"),
            ("policy", "the answer without a verdict of the content policy"),
        }
    else:
        answer = chat(gateway, key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "policy_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert spent(edge, key) == []


def test_what_is_not_to_be_judged_is_not_shown(edge: Edge, gateway: Gateway, judge: Judge) -> None:
    assert told(chat(gateway, tenant_under(edge, judge, skip_prompts=True))) == WORD * 3
    assert (len(judge.prompts), len(judge.parts)) == (0, 1)
    assert told(chat(gateway, tenant_under(edge, judge, answers=policy_pb2.ANSWER_CHECK_NONE))) == WORD * 3
    assert (len(judge.prompts), len(judge.parts)) == (1, 1)
