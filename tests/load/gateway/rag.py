"""The part ``rag``: answers from sources through the whole suite, beside the same asker over leaves in this process.

Both search the same paragraphs, put the same prompts and take the same number of tokens from engines of the same settings;
each is loaded while the other is idle, and questions are asked once.  The table says where the rest goes, by stage.
"""

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import uvloop
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium.retriever.v1 import retriever_pb2

from gateway.answering import Wish
from gateway.asking.asker import Asker
from gateway.asking.question import Answer, Question
from gateway.asking.question import Path as AnswerPath
from gateway.asking.retrieval import Policy, Scope
from gateway.generation import Sampling
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.resources import Role as Part
from services.chassis.resources import shares
from services.ops.supervisor import Suite, launch
from tests.integration.gateway.stock import metadata
from tests.load.gateway import pipeline
from tests.load.gateway.bare_engine import settings_of_the_suite, vllm_serve
from tests.load.gateway.parts import Figures, say
from tests.load.gateway.rag_stages import Times, compared
from tests.load.retriever.sets import Corpus, xquad
from tests.load.trainer.parts import spread
from tests.public_sets import public_sets

_AT_ONCE = 8
_QUESTIONS = 48
_TOKENS = 48
_ROUNDS = 5
_CALLER = RequestContext("bench", "bench", frozenset({Role.MEMBER}), Bearer(), "bench", None, "/Ask")
Ask = Callable[[str], Awaitable[Times]]


@dataclass(frozen=True, slots=True)
class Side:
    """One road to an answer."""

    name: str
    ask: Ask


def figures(scale: float) -> Figures:
    """``rag_ratio``, and what each stage takes on both sides."""
    (corpus,) = xquad(public_sets()).corpora
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder) / "suite") as suite:
        _ingest(suite, corpus)
        with vllm_serve(settings_of_the_suite(), {}) as url:
            return uvloop.run(_compared(suite, corpus, url, Path(folder), scale))


def _ingest(suite: Suite, corpus: Corpus) -> None:
    with suite.client() as client, tempfile.TemporaryDirectory() as folder:
        for document in corpus.documents:
            (Path(folder) / document.document).write_bytes(document.content)
        client.collections.create(corpus.name)
        client.docs.add_folder(folder, collection=corpus.name)
        for _ in client.docs.watch(corpus.name):
            pass


async def _compared(suite: Suite, corpus: Corpus, url: str, folder: Path, scale: float) -> Figures:
    channel = grpc.aio.insecure_channel(suite.addresses["gateway"])
    async with channel, pipeline.opened(folder, corpus, url, shares()[Part.EMBEDDER].threads) as asker:
        sides = [Side("suite", _through(suite, channel, corpus)), Side("pipeline", _beside(asker, corpus))]
        each = max(_AT_ONCE, round(_QUESTIONS * scale))
        questions = [asked.text for asked in corpus.questions]
        for side in sides:
            await _seconds(side, questions[:_AT_ONCE], defaultdict(list))
        times: dict[str, dict[str, list[float]]] = {side.name: defaultdict(list) for side in sides}
        ratios = []
        for number in range(max(2, round(_ROUNDS * scale))):
            some = questions[_AT_ONCE + number * each :][:each]
            # In turn: whoever goes first is as often the one as the other.
            order = sides if number % 2 == 0 else sides[::-1]
            seconds = {side.name: await _seconds(side, some, times[side.name]) for side in order}
            ratios.append(seconds["pipeline"] / seconds["suite"])
            say(f"{each} answers: {seconds['suite']:.2f} s through the suite, {ratios[-1]:.3f} of the pipeline's rate")
    return told(ratios, times)


async def _seconds(side: Side, questions: Sequence[str], times: dict[str, list[float]]) -> float:
    """How long the questions take, so many at once."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(question: str) -> None:
        async with gate:
            began = time.perf_counter()
            stages = await side.ask(question)
            whole = (time.perf_counter() - began) * 1000
        for stage, took in {**compared(stages), "whole": whole}.items():
            times[stage].append(took)

    began = time.perf_counter()
    await asyncio.gather(*map(one, questions))
    return time.perf_counter() - began


def _through(suite: Suite, channel: grpc.aio.Channel, corpus: Corpus) -> Ask:
    stub: gateway_pb2_grpc.GatewayServiceAsyncStub = gateway_pb2_grpc.GatewayServiceStub(channel)
    sampling = chat_pb2.Sampling(max_tokens=_TOKENS, temperature=0.0, ignore_eos=True)

    async def ask(question: str) -> Times:
        request = gateway_pb2.AskRequest(
            question=question,
            collections=[corpus.name],
            sampling=sampling,
            path=gateway_pb2.ANSWER_PATH_PASSAGES,
            abstention=retriever_pb2.ABSTENTION_POLICY_OFF,
        )
        async for event in stub.Ask(request, metadata=metadata(suite.api_key), timeout=240):
            last = event
        return {timing.stage: timing.seconds * 1000 for timing in last.final.timings}

    return ask


def _beside(asker: Asker, corpus: Corpus) -> Ask:
    wish = Wish("base", Sampling(max_tokens=_TOKENS, temperature=0.0, ignore_eos=True))
    scope = Scope((corpus.name,))

    async def ask(question: str) -> Times:
        asked = Question(question, wish, scope, abstention=Policy.OFF, path=AnswerPath.PASSAGES)
        with serving(_CALLER):
            async for event in asker.ask(asked):
                last = event
        assert isinstance(last, Answer)
        return {timing.stage: timing.seconds * 1000 for timing in last.end.timings}

    return ask


def told(ratios: Sequence[float], times: Mapping[str, Mapping[str, Sequence[float]]]) -> Figures:
    """The table for people, and the figures; milliseconds by side and stage."""
    suite, bare = times["suite"], times["pipeline"]
    table = {}
    say(f"{'ms, median':<14} {'suite':>9} {'pipeline':>9} {'more':>8}")
    for stage in dict.fromkeys([*suite, *bare]):
        ours, floor = (statistics.median(side[stage]) if side.get(stage) else 0.0 for side in (suite, bare))
        table[stage] = {"suite": round(ours, 2), "pipeline": round(floor, 2)}
        say(f"{stage:<14} {ours:>9.1f} {floor:>9.1f} {ours - floor:>8.1f}")
    say(f"rag_ratio {spread(ratios)}")
    return {"rag_ratio": statistics.median(ratios), "rag_ratios": sorted(ratios), "rag_stages_ms": table}
