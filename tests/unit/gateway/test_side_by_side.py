"""Several prompts of one request: each answered as it would be alone, all told as one answer of one version."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2 as pb
from trivium.generator.v1 import generator_pb2

from gateway import wire
from gateway.answering import Answerer, Wish
from gateway.chat import Chatter, Conversation
from gateway.generation import (
    ChoiceEnd,
    Fallback,
    FinishReason,
    Generated,
    Opening,
    Receipt,
    Sampling,
    Several,
    StageTiming,
    TextDelta,
    TokenIds,
    Usage,
)
from gateway.generator import GenerationRequest
from gateway.leaving import held
from gateway.receipts import seeded
from gateway.routing import ModelKind, Route
from gateway.side_by_side import MOST_AT_ONCE, joined
from gateway.stages import Stopwatch
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.tracing import untraced

ASKING = RequestContext("ada", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/Complete")
ROUTE = Route("desk", "desk@v1", ModelKind.ADAPTER, "v1", fallback="base")
SECONDS = 30


class Model:
    """Says of each prompt what it is, word by word, a step at a time; prompts in ``fails`` fail at their beginning."""

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []
        self.fails: dict[str, Failure] = {}
        # Prompts that never end, and which of these have said their first word.
        self.endless: set[str] = set()
        self.bases: dict[str, str] = {}
        self.gone: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.stuck = asyncio.Event()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Opening | TextDelta | Generated]:
        self.requests.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            async for part in self.said(request):
                await asyncio.sleep(0)
                yield part
        finally:
            self.at_once -= 1

    async def said(self, request: GenerationRequest) -> AsyncGenerator[Opening | TextDelta | Generated]:
        name = str(request.prompt.ids) if isinstance(request.prompt, TokenIds) else str(request.prompt)
        words = name.split()
        receipt = Receipt("", version_digest=request.version, base_digest=self.bases.get(name, "b"))
        if request.version in self.gone:
            raise Failure(Reason.VERSION_NOT_FOUND, name=request.version, fate="")
        if name in self.fails:
            raise self.fails[name]
        yield Opening(_counted(receipt, len(words), 0))
        answers = request.sampling.n or 1
        for word in words:
            for choice in range(answers):
                yield TextDelta(word, tokens=1, choice=choice)
            if name in self.endless:
                self.stuck.set()
                await asyncio.Event().wait()
        done = _counted(receipt, len(words), len(words) * answers, name)
        ends = tuple(ChoiceEnd(FinishReason.STOP, len(words)) for _ in range(answers))
        timings = (StageTiming("generate", float(len(words)), len(words)),)
        yield Generated(FinishReason.STOP, done.usage, timings, done, ends)


def _counted(receipt: Receipt, prompt: int, completion: int, name: str = "") -> Receipt:
    usage = Usage(prompt, completion, 1)
    digests = (f"p:{name}", f"c:{name}") if name else ("", "")
    return Receipt(
        "",
        version_digest=receipt.version_digest,
        base_digest=receipt.base_digest,
        prompt_tokens_digest=digests[0],
        completion_digest=digests[1],
        usage=usage,
        complete_time_seconds=float(completion),
    )


class Records:
    """Keeps what was used, by how it ended."""

    def __init__(self) -> None:
        self.ended: list[Receipt] = []
        self.cancelled: list[Receipt] = []

    async def record(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        self.ended.append(receipt)

    def record_cancelled(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        self.cancelled.append(receipt)


class Names:
    """One adapter, and the base that it falls back to."""

    async def resolve(self, *_: object) -> Route:
        return ROUTE

    async def fall_back(self, route: Route, failure: Failure, sticky_key: str = "") -> Route:
        return Route("desk", "base", ModelKind.BASE, fallbacks=(Fallback("route", "base", failure.reason.name),))


class Desk:
    """Answers several prompts."""

    def __init__(self) -> None:
        self.model, self.records = Model(), Records()
        model: Any = self.model
        records: Any = self.records
        names: Any = Names()
        self.chatter = Chatter(names, Answerer(model, records, names), lambda: 0.0, lambda: "r1", untraced)

    async def said(self, *prompts: str | TokenIds, **sampling: Any) -> tuple[dict[int, str], Generated]:
        texts: dict[int, str] = {}
        wish = Wish(model="desk", sampling=Sampling(**sampling))
        with serving(ASKING):
            async with asyncio.timeout(SECONDS):
                async with aclosing(self.chatter.chat(Conversation(Several(prompts), wish))) as parts:
                    async for part in parts:
                        if isinstance(part, Generated):
                            return texts, part
                        texts[part.choice] = texts.get(part.choice, "") + part.text
        raise AssertionError("an answer had no end")


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_answer_j_to_prompt_i_has_the_number_and_the_seed_of_its_place(desk: Desk) -> None:
    texts, end = await desk.said("a b c", "d", TokenIds((5, 6)), n=2, seed=7, temperature=1.0)
    assert texts == {0: "abc", 1: "abc", 2: "d", 3: "d", 4: "(5,6)", 5: "(5,6)"}
    assert [(request.prompt, request.sampling.seed) for request in desk.model.requests] == [
        ("a b c", 7),
        ("d", 9),
        (TokenIds((5, 6)), 11),
    ]
    assert [choice.completion_tokens for choice in end.choices] == [3, 3, 1, 1, 2, 2]


async def test_without_a_seed_two_prompts_that_are_alike_draw_differently_and_as_they_would_again(desk: Desk) -> None:
    await desk.said("a", "a")
    first = seeded(Sampling(), "r1").seed
    assert first is not None
    assert [request.sampling.seed for request in desk.model.requests] == [first, first + 1]


async def test_the_greatest_seed_has_a_next_one(desk: Desk) -> None:
    await desk.said("a", "b", seed=(1 << 63) - 1)
    assert [request.sampling.seed for request in desk.model.requests] == [(1 << 63) - 1, 0]


async def test_they_come_interleaved(desk: Desk) -> None:
    order: list[int] = []
    with serving(ASKING):
        answers = desk.chatter.chat(Conversation(Several(("a b c", "d e f")), Wish(model="desk")))
        async with asyncio.timeout(SECONDS), aclosing(answers) as parts:
            async for part in parts:
                if isinstance(part, TextDelta):
                    order.append(part.choice)  # noqa: PERF401  # a comprehension would take the end too
    assert order == [0, 1, 0, 1, 0, 1]


async def test_their_end_is_one_record_with_all_their_tokens(desk: Desk) -> None:
    _, end = await desk.said("a b c", "d")
    (kept,) = desk.records.ended
    assert kept == end.receipt
    assert (end.usage, kept.usage, kept.request_id) == (Usage(4, 4, 2), Usage(4, 4, 2), "r1")
    assert desk.records.cancelled == []
    digests = [f"sha256:{hashlib.sha256(each.encode()).hexdigest()}" for each in ("p:a b cp:d", "c:a b cc:d")]
    assert [kept.prompt_tokens_digest, kept.completion_digest] == digests
    # Of the one that ended last.
    assert [(stage.stage, stage.seconds) for stage in end.timings] == [("resolve", 0.0), ("generate", 3.0)]
    assert kept.complete_time_seconds == 3.0


@pytest.mark.parametrize(("n", "at_once"), [(1, MOST_AT_ONCE), (5, 3), (16, 1)])
async def test_no_more_answers_are_made_at_once_than_one_prompt_may_have(desk: Desk, n: int, at_once: int) -> None:
    texts, _ = await desk.said(*("a b" for _ in range(40)), n=n)
    assert sorted(texts) == list(range(40 * n))
    assert desk.model.most_at_once == at_once


@pytest.mark.parametrize(
    ("failure", "field"),
    [
        (Failure(Reason.PROMPT_TOO_LONG, tokens=9, limit=8, advice="Shorten it"), "prompts[1]"),
        (Failure(Reason.FIELD_INVALID, field="token_ids", problem="ids lie from 0 to 9"), "prompts[1]"),
        (Failure(Reason.FIELD_INVALID, field="sampling.n", problem="needs a temperature"), "sampling.n"),
    ],
)
async def test_a_prompt_at_fault_is_told_by_its_place_and_ends_all(desk: Desk, failure: Failure, field: str) -> None:
    desk.model.fails["bad"] = failure
    desk.model.endless.add("a")
    with pytest.raises(Failure) as refused:
        await desk.said("a", "bad", "c")
    assert (refused.value.reason, refused.value.field) == (failure.reason, field)
    assert str(refused.value).replace(field, "") == str(failure).replace(failure.field or field, "")
    assert desk.model.at_once == 0


async def test_what_was_made_before_an_invalid_prompt_is_charged_and_before_a_fault_of_ours_what_was_heard(
    desk: Desk,
) -> None:
    many = ["a b", *("c" for _ in range(MOST_AT_ONCE)), "bad"]
    desk.model.fails["bad"] = Failure(Reason.PROMPT_TOO_LONG, tokens=9, limit=8, advice="Shorten it")
    with pytest.raises(Failure):
        await desk.said(*many)
    (kept,) = desk.records.cancelled
    assert kept.usage.completion_tokens >= MOST_AT_ONCE
    desk.model.fails["bad"] = Failure(Reason.PEER_UNAVAILABLE, service="generator")
    with held(), pytest.raises(Failure, check=lambda failure: failure.reason is Reason.PEER_UNAVAILABLE):
        await desk.said(*many)
    assert (len(desk.records.cancelled), desk.records.ended) == (1, [])
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.PEER_UNAVAILABLE):
        await desk.said(*many)
    assert (len(desk.records.cancelled), desk.records.ended) == (2, [])
    assert desk.records.cancelled[1].usage.completion_tokens >= MOST_AT_ONCE


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_whoever_leaves_is_charged_once_for_all_that_was_made(desk: Desk, how: str) -> None:
    desk.model.endless.add("a b")

    async def listen() -> None:
        with serving(ASKING):
            answers = desk.chatter.chat(Conversation(Several(("a b", "c", "a b")), Wish(model="desk")))
            async with aclosing(answers) as parts:
                async for _ in parts:
                    if how == "closed" and desk.model.stuck.is_set():
                        return

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(SECONDS):
        await desk.model.stuck.wait()
        if how == "cancelled":
            listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert desk.records.ended == []
    (kept,) = desk.records.cancelled
    assert 1 <= kept.usage.completion_tokens <= 3
    assert desk.model.at_once == 0


async def test_where_one_cannot_be_served_before_anything_was_told_all_fall_back_together(desk: Desk) -> None:
    desk.model.gone = {"v1"}
    texts, end = await desk.said("a", "b")
    versions = [request.version for request in desk.model.requests[-2:]]
    assert (texts, versions, end.receipt.resolved_model) == ({0: "a", 1: "b"}, ["", ""], "base")
    assert [told.reason for told in end.fallbacks] == ["VERSION_NOT_FOUND"]


async def test_two_bases_never_make_one_answer(desk: Desk) -> None:
    desk.model.bases["b"] = "another"
    with pytest.raises(Failure) as refused:
        await desk.said("a", "b")
    assert refused.value.reason is Reason.VERSION_MISMATCH
    assert desk.records.ended == []


@pytest.mark.parametrize("prompt", [Several(("a", "b")), TokenIds((1,))])
async def test_auto_has_no_one_text_to_choose_by(desk: Desk, prompt: Several | TokenIds) -> None:
    with serving(ASKING), pytest.raises(Failure) as refused:
        await anext(desk.chatter.chat(Conversation(prompt, Wish(model="auto"))))
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, "model")


def test_one_receipt_is_itself_and_one_without_its_digests_makes_none() -> None:
    one = Receipt("r", prompt_tokens_digest="p", completion_digest="c")
    assert joined([one]) is one
    assert joined([one, Receipt("r", prompt_tokens_digest="q")]).completion_digest == ""


def test_a_stopwatch_that_is_forked_goes_on_without_the_other() -> None:
    watch = Stopwatch(lambda: 0.0)
    watch.measured("resolve", 1.0)
    further = watch.forked()
    further.measured("generate", 2.0)
    assert [stage.stage for stage in further.timings] == ["resolve", "generate"]
    assert [stage.stage for stage in watch.timings] == ["resolve"]


def test_a_request_for_several_is_one_demand_with_all_their_tokens() -> None:
    one, ids = pb.RawPrompt(text="x" * 40), pb.RawPrompt(token_ids=generator_pb2.TokenIds(ids=[1, 2, 3]))
    sampling = chat_pb2.Sampling(max_tokens=10, n=2)
    request = pb.CompleteRequest(model="desk", prompts=[one, ids], sampling=sampling)
    demand = wire.demand(request)
    alone = wire.demand(pb.CompleteRequest(model="desk", prompt="x" * 40, sampling=sampling))
    assert demand.prompt_tokens == alone.prompt_tokens + 3
    assert (demand.completion_tokens, alone.completion_tokens) == (40, 20)
    assert wire.continuation(request).prompt == Several(("x" * 40, TokenIds((1, 2, 3))))
    assert wire.continuation(pb.CompleteRequest(prompts=[ids])).prompt == TokenIds((1, 2, 3))
