"""A stream is held to its version where it names one, and what was used is told whoever leaves; over a real wire."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

import grpc
import pytest
from trivium.common.v1 import receipt_pb2
from trivium.generator.v1 import generator_pb2 as pb
from trivium.generator.v1 import generator_pb2_grpc

from gateway.answering import Answerer, Wish
from gateway.generation import Generated, Receipt, Several, TextDelta, Usage
from gateway.leaving import held
from gateway.peers.generator import RemoteGenerator
from gateway.peers.spool import FolderSpool
from gateway.policy import in_force
from gateway.policy.nouns import Allow, AnswerCheck, ContentPolicy
from gateway.policy.policing import Policing
from gateway.receipts import Recorder, Waiting
from gateway.routing import ModelKind, Route
from gateway.stages import Stopwatch
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from services.chassis.runtime import new_id
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.gateway.test_waiting_receipts import Ledger

ANY = Wish()
VERSION, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ROUTE = Route("support@prod", f"support@{VERSION}", ModelKind.ADAPTER, VERSION)


def opening(version: str) -> pb.GenerateResponse:
    receipt = receipt_pb2.Receipt(version_digest=version, usage=receipt_pb2.Usage(prompt_tokens=7))
    return pb.GenerateResponse(opening=pb.Opening(receipt=receipt))


def final(version: str) -> pb.GenerateResponse:
    return pb.GenerateResponse(final=pb.Final(receipt=receipt_pb2.Receipt(version_digest=version)))


TEXT = pb.GenerateResponse(delta=pb.Delta(text="word", token_ids=[1, 2]))
SILENT = pb.GenerateResponse(delta=pb.Delta(token_ids=[3]))
ASKING = RequestContext("ada", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/Ask")


class Scripted(generator_pb2_grpc.GeneratorServiceServicer):
    """A generator that says what it was told to, and then dies, or never ends by itself."""

    def __init__(self, *script: pb.GenerateResponse, dies: bool = False) -> None:
        self.script = script
        self.dies = dies
        self.cancelled = asyncio.Event()

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        try:
            for response in self.script:
                yield response
            if self.dies:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "it died")
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@asynccontextmanager
async def answerer(generator, tmp_path, under_way=None, ledger=None):
    server = grpc.aio.server()
    generator_pb2_grpc.add_GeneratorServiceServicer_to_server(generator, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        spool = FolderSpool(tmp_path / "receipts", new_id)
        ledger = ledger or Ledger(reachable=False)
        recorder = Recorder(ledger, spool, logger("test"), pause=lambda _: asyncio.Event().wait())
        recording = asyncio.create_task(recorder.run())
        policing = Policing(Lenient(), logger("test"))
        yield Answerer(RemoteGenerator(channel), recorder, policing=policing, under_way=under_way)
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
    await server.stop(None)


async def told(answerer, wish=ANY, prompt="p"):
    parts: list[TextDelta | Generated] = []
    try:
        async with (
            asyncio.timeout(HANG_SECONDS),
            aclosing(answerer.answer(prompt, wish, ROUTE, Stopwatch(lambda: 0.0))) as stream,
        ):
            async for part in stream:
                parts.append(part)  # noqa: PERF401  # a comprehension would lose what came before the failure
    except Failure as failure:
        return parts, failure.reason
    return parts, None


@pytest.mark.parametrize(
    ("script", "words"),
    [((opening(OTHER), TEXT), 0), ((opening(VERSION), TEXT, opening(OTHER), TEXT), 1), ((TEXT, final(OTHER)), 1)],
    ids=["in its opening", "in the middle", "in its final message"],
)
async def test_a_stream_of_other_weights_ends_where_it_says_so(tmp_path, script, words):
    generator = Scripted(*script)
    async with answerer(generator, tmp_path) as ours:
        parts, reason = await told(ours)
        assert reason is Reason.VERSION_MISMATCH
        assert [part.text for part in parts] == ["word"] * words
        async with asyncio.timeout(HANG_SECONDS):
            await generator.cancelled.wait()


async def test_a_stream_of_the_routed_weights_is_text_and_then_its_end(tmp_path):
    async with answerer(Scripted(opening(VERSION), TEXT, final(VERSION)), tmp_path) as ours:
        parts, reason = await told(ours)
        assert reason is None
        assert [type(part) for part in parts] == [TextDelta, Generated]


async def waiting_receipts(tmp_path):
    """What waits on the disk, once the gateway has ended; what it kept twice while it ended is one to access."""
    spool = FolderSpool(tmp_path / "receipts", new_id)
    all_ = [waiting for name in await spool.names() for waiting in await spool.read(name) or []]
    return list({waiting.receipt.request_id: waiting for waiting in all_}.values())


async def left_after_a_word(answerer, how):
    """Leave at the first text: by closing the stream, or cancelled while the next piece is awaited."""
    heard = asyncio.Event()

    async def listen():
        with serving(ASKING):
            stream = answerer.answer("p", Wish(request_id="r1"), ROUTE, Stopwatch(lambda: 0.0))
            async with aclosing(stream) as parts:
                async for _ in parts:
                    heard.set()
                    if how == "closed":
                        return

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(HANG_SECONDS):
        await heard.wait()
        if how == "cancelled":
            listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_what_a_cancelled_request_used_is_kept_beside_what_its_id_may_yet_be_answered_with(tmp_path, how):
    generator = Scripted(opening(VERSION), SILENT, TEXT)
    async with answerer(generator, tmp_path) as ours:
        await left_after_a_word(ours, how)
        async with asyncio.timeout(HANG_SECONDS):
            await generator.cancelled.wait()
    (kept,) = await waiting_receipts(tmp_path)
    assert (kept.tenant, kept.principal, kept.method) == ("ada", "key1", "/Ask")
    assert re.fullmatch(r"r1~cancelled-\d+", kept.receipt.request_id)
    assert kept.receipt.usage == Usage(prompt_tokens=7, completion_tokens=3)
    assert kept.receipt.version_digest == VERSION


class Late(Scripted):
    """One whose script is longer than its caller's deadline."""

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        for response in self.script:
            yield response
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "")


async def test_what_was_said_before_a_deadline_that_was_too_short_is_kept(tmp_path):
    async with answerer(Late(opening(VERSION), SILENT, TEXT), tmp_path) as ours:
        with serving(ASKING):
            parts, reason = await told(ours)
    assert reason is Reason.DEADLINE_EXCEEDED
    assert [type(part) for part in parts] == [TextDelta]
    (kept,) = await waiting_receipts(tmp_path)
    assert kept.receipt.usage == Usage(prompt_tokens=7, completion_tokens=3)


async def test_nothing_is_kept_of_a_request_that_ended_or_that_the_engine_had_not_begun(tmp_path):
    async with answerer(Scripted(TEXT), tmp_path) as ours:
        await left_after_a_word(ours, "closed")
    async with answerer(Scripted(opening(VERSION), final(VERSION)), tmp_path) as ours:
        await left_after_a_word(ours, "closed")
    assert await waiting_receipts(tmp_path) == []


class Kept:
    """A place that says what stands in it."""

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.left = asyncio.Event()

    def heard(self, completion_tokens: int) -> None:
        usage = replace(self.waiting.receipt.usage, completion_tokens=completion_tokens)
        self.holds(replace(self.waiting.receipt, usage=usage))

    def holds(self, receipt: Receipt) -> None:
        self.waiting = replace(self.waiting, receipt=receipt)

    def leave(self) -> None:
        self.left.set()


class Places:
    """A place for each."""

    def __init__(self) -> None:
        self.taken: list[Kept] = []

    def enter(self, waiting: Waiting) -> Kept:
        marked = replace(waiting.receipt, request_id=f"{waiting.receipt.request_id}~cancelled-1")
        self.taken.append(Kept(replace(waiting, receipt=marked)))
        return self.taken[-1]


BY_THE_SENTENCE = ContentPolicy("127.0.0.1:9", 1.0, answers=AnswerCheck.PIECES)
AS_A_WHOLE = replace(BY_THE_SENTENCE, answers=AnswerCheck.WHOLE)
MIXED = (opening(VERSION), SILENT, TEXT)
SENTENCE = pb.GenerateResponse(delta=pb.Delta(text="s leave. And", token_ids=[4, 5]))


class Lenient:
    """Lets everything pass."""

    async def prompt(self, policy: ContentPolicy, prompt: object) -> Allow:
        return Allow()

    async def part(self, policy: ContentPolicy, part: object) -> Allow:
        return Allow()


@pytest.mark.parametrize(
    ("script", "whole", "policy", "charged"),
    [
        (MIXED, False, None, [Usage(prompt_tokens=7, completion_tokens=3)]),
        ((opening(VERSION), SILENT), False, None, []),
        ((*MIXED, opening(OTHER)), False, None, []),
        (MIXED, True, None, []),
        ((*MIXED, SENTENCE), False, AS_A_WHOLE, []),
        (MIXED, False, BY_THE_SENTENCE, []),
        ((*MIXED, SENTENCE), False, BY_THE_SENTENCE, [Usage(prompt_tokens=7, completion_tokens=5)]),
    ],
    ids=[
        "as it comes",
        "before anything was heard",
        "of other weights",
        "given whole",
        "judged whole",
        "before a sentence was judged",
        "behind a sentence that was judged",
    ],
)
async def test_what_an_answer_used_that_broke_off_counts_where_a_part_of_it_was_heard(
    tmp_path, script, whole, policy, charged
):
    places = Places()
    async with answerer(Scripted(*script, dies=True), tmp_path, places) as ours:
        with serving(ASKING), held() if whole else nullcontext():
            in_force.begin(policy)
            parts, reason = await told(ours, Wish(request_id="r1"))
            in_force.begin(None)
    # Of other weights there was a part before that was known.
    if reason is Reason.PEER_UNAVAILABLE:
        assert [place.waiting.receipt.usage for place in places.taken] == charged
    assert reason in (Reason.PEER_UNAVAILABLE, Reason.VERSION_MISMATCH)
    assert not any(isinstance(part, Generated) for part in parts)
    kept = await waiting_receipts(tmp_path)
    assert [waiting.receipt.usage for waiting in kept] == charged
    assert all(re.fullmatch(r"r1~cancelled-\d+", waiting.receipt.request_id) for waiting in kept)


class Uneven(generator_pb2_grpc.GeneratorServiceServicer):
    """Of two prompts the first ends, with more tokens from a cache than its opening knew; the second dies."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        yield opening(VERSION)
        yield TEXT
        if request.text == "one":
            usage = receipt_pb2.Usage(prompt_tokens=7, completion_tokens=2, cached_prompt_tokens=4)
            yield pb.GenerateResponse(
                final=pb.Final(receipt=receipt_pb2.Receipt(version_digest=VERSION, usage=usage), usage=usage)
            )
            self.ended.set()
            return
        await self.ended.wait()
        yield TEXT
        await context.abort(grpc.StatusCode.UNAVAILABLE, "it died")


async def test_what_is_recorded_of_several_that_broke_off_is_what_stands_in_their_place(tmp_path):
    places = Places()
    async with answerer(Uneven(), tmp_path, places) as ours:
        with serving(ASKING):
            _, reason = await told(ours, Wish(request_id="r1"), Several(("one", "two")))
    assert reason is Reason.PEER_UNAVAILABLE
    (place,) = places.taken
    assert await waiting_receipts(tmp_path) == [place.waiting]
    assert place.waiting.receipt.usage == Usage(14, 6, 4)


class Entered:
    """Places for answers under way, of which there is none left: what would have stood in them."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []

    def enter(self, waiting: Waiting) -> None:
        self.waiting.append(waiting)


@pytest.mark.parametrize("actor", ["", "files"])
async def test_what_stands_of_an_answer_under_way_tells_whether_anybody_waits_for_it(tmp_path, actor):
    entered = Entered()
    async with answerer(Scripted(*MIXED, dies=True), tmp_path, entered) as ours:
        with serving(replace(ASKING, actor=actor)):
            await told(ours, Wish(request_id="r1"))
    assert [waiting.unattended for waiting in entered.waiting] == [bool(actor)]


async def test_what_leaves_only_at_its_end_has_a_place_until_it_is_recorded(tmp_path):
    places = Places()
    async with answerer(Scripted(*MIXED, final(VERSION)), tmp_path, places) as ours:
        with serving(ASKING):
            in_force.begin(BY_THE_SENTENCE)
            parts, reason = await told(ours, Wish(request_id="r1"))
            in_force.begin(None)
    assert ([type(part) for part in parts], reason) == ([TextDelta, Generated], None)
    assert [place.waiting.receipt.request_id for place in places.taken] == ["r1"]


async def answered(answerer, policy):
    """An answer to its end, which is recorded."""
    with serving(ASKING):
        in_force.begin(policy)
        stream = answerer.answer("p", Wish(request_id="r1"), ROUTE, Stopwatch(lambda: 0.0))
        async with aclosing(stream) as parts:
            async for part in parts:
                if isinstance(part, Generated):
                    await answerer.record(part)


@pytest.mark.parametrize("policy", [None, BY_THE_SENTENCE], ids=["its record waits", "it is judged"])
async def test_an_answer_whose_caller_leaves_at_its_end_keeps_its_place_until_it_is_recorded(
    tmp_path, monkeypatch, policy
):
    places, ledger, judging = Places(), Ledger(reachable=True), asyncio.Event()
    ledger.open.clear()

    async def never(*_):
        judging.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Lenient, "part", never)
    async with (
        answerer(Scripted(*MIXED, final(VERSION)), tmp_path, places, ledger) as ours,
        asyncio.timeout(HANG_SECONDS),
    ):
        asking = asyncio.create_task(answered(ours, policy))
        await (judging if policy else ledger.asked).wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await ledger.asked.wait()
        (place,) = places.taken
        assert not place.left.is_set()
        ledger.open.set()
        await place.left.wait()
    assert ledger.kept == [place.waiting]
