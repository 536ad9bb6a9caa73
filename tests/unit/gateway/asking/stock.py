"""Sources of the tests of answers, and peers of the asker that do what they are told."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.answering import Answerer, Wish
from gateway.asking.asker import Asker
from gateway.asking.question import Question
from gateway.asking.retrieval import Answerability, Counted, Found, Scope, Source, Statement, Summarized
from gateway.asking.stages import Tracer
from gateway.auto.choosing import Choice
from gateway.chat import Chatter
from gateway.generation import (
    CollectionVersion,
    FinishReason,
    Generated,
    Message,
    Opening,
    Receipt,
    SourceSpan,
    StageTiming,
    TextDelta,
    Usage,
)
from gateway.generator import Engine, GenerationRequest, PromptSize
from gateway.limits.gate import used
from gateway.names import BASE
from gateway.policy.policing import Policing
from gateway.receipts import Waiting
from gateway.routing import ModelKind, Route, Router
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.chassis.runtime import new_id
from tests.harness.timeouts import HANG_SECONDS

FARES = "An adult's day ticket is 9 crowns. A child's day ticket is 4 crowns. Dogs travel free."
FOG = "In fog the boats sail at half speed and sound one long blast every two minutes."
VERSION = "sha256:" + "a" * 64
ASKING = RequestContext("ada", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/Ask")


def source(text: str, marker: int, title: str = "") -> Source:
    return Source(
        SourceSpan("ferry", f"d{marker}.md", "v" * 64, 100, 100 + len(text), "k", marker), title, (), text, 1.0
    )


SOURCES = (source(FARES, 1, "Fares"), source(FOG, 2, "Fog"))
FERRY = CollectionVersion("ferry", "e" * 32)


class Retriever:
    """Finds what it was given; ``fails`` and ``slow`` are of its deep searches alone."""

    def __init__(self) -> None:
        self.found = Found(SOURCES, answerability=Answerability(0.9, 0.5, answerable=True), collections=(FERRY,))
        self.fails: Failure | None = None
        self.slow = False
        self.asked: list[tuple[str, bool]] = []
        self.heard = asyncio.Event()
        self.statements = (Statement("Dogs travel free.", (source(FARES, 0),)),)
        self.counted = Counted("ferry", 2, 5, ("fog",), ("Fog", "Notice"), (source(FOG, 0), None), FERRY.version)
        self.about: list[str] = []

    async def search(
        self, scope: Scope, query: str, top_k: int, *, shallow: bool = False, within_seconds: float | None = None
    ) -> Found:
        self.asked.append((query, shallow))
        self.heard.set()
        if not shallow and self.slow:
            await asyncio.Event().wait()
        if not shallow and self.fails:
            raise self.fails
        return self.found

    async def summarize(
        self, scope: Scope, collection: str, focus: str, *, within_seconds: float | None = None
    ) -> Summarized:
        self.about.append(focus)
        if self.fails:
            raise self.fails
        if self.slow:
            await asyncio.Event().wait()
        return Summarized(self.statements, FERRY.version)

    async def count(
        self, scope: Scope, collection: str, keywords: str, most: int, *, within_seconds: float | None = None
    ) -> Counted:
        self.about.append(keywords)
        return self.counted


class Generator:
    """Says its ``pieces``; to what the gateway asks by itself it says ``aside``, if it says anything."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.aside: str | None = ""
        self.requests: list[Any] = []
        self.prepared: list[str] = []
        self.before_it_is_ready: asyncio.Event | None = None
        # Refuses any version: when it is to answer, and when a prompt of it is to be counted.
        self.refuses: Failure | None = None
        self.cannot_count: Failure | None = None
        # What an answer ends in behind its pieces.
        self.dies: Failure | None = None
        self.context_tokens = 1000
        self.timings: tuple[StageTiming, ...] = ()

    async def generate(self, request: GenerationRequest):
        self.requests.append(request)
        aside = "~" in request.request_id
        receipt = Receipt(request.request_id, version_digest=request.version, usage=Usage(prompt_tokens=7))
        yield Opening(receipt)
        if request.version and self.refuses is not None:
            raise self.refuses
        if aside and self.aside is None:
            await asyncio.Event().wait()
        for piece in [self.aside or ""] if aside else self.pieces:
            yield TextDelta(piece, tokens=1)
        if self.dies is not None:
            raise self.dies
        receipt = replace(receipt, usage=Usage(7, 3))
        yield Generated(FinishReason.STOP, receipt.usage, self.timings, receipt)

    async def size(self, messages: Sequence[Message], base: str, version: str) -> PromptSize:
        if version and self.cannot_count is not None:
            raise self.cannot_count
        return PromptSize(10 * len(messages[-1].content.splitlines()), self.context_tokens)

    async def prepare(self, version: str) -> None:
        self.prepared.append(version)
        if self.before_it_is_ready is not None:
            await self.before_it_is_ready.wait()

    async def engines(self) -> list[Engine]:
        return []

    async def resident_versions(self) -> frozenset[str]:
        return frozenset()


class Registry:
    """Knows one model; ``waits`` keeps it from answering until it is set."""

    def __init__(self) -> None:
        self.prompt_format = ""
        self.waits: asyncio.Event | None = None
        self.fails: Failure | None = None
        self.heard = asyncio.Event()
        self.fallback = ""

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        self.heard.set()
        if self.waits is not None:
            await self.waits.wait()
        if self.fails is not None:
            raise self.fails
        route = Route(name, f"{name}@{VERSION}", ModelKind.ADAPTER, VERSION, fallback=self.fallback)
        return replace(route, prompt_format=self.prompt_format)

    async def aliases(self):
        return []


class Embedder:
    """Vectors of two numbers: of a text with the word that is near, and of any other."""

    def __init__(self, near: str = "\0") -> None:
        self.near = near
        self.away = False
        self.texts: list[str] = []
        self.heard = asyncio.Event()
        self.answers = True

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.heard.set()
        if not self.answers:
            await asyncio.Event().wait()
        if self.away:
            raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")
        self.texts += texts
        return [[1.0, 0.0] if self.near in text else [0.0, 1.0] for text in texts]


class Chooser:
    """Chooses the model of the first word that it knows, and keeps what it was asked."""

    def __init__(self, **models: str) -> None:
        self.models = models
        self.asked: list[str] = []
        self.waits: asyncio.Event | None = None

    async def choose(self, question: str) -> Choice:
        self.asked.append(question)
        if self.waits is not None:
            await self.waits.wait()
        named = (self.models[word] for word in question.split() if word in self.models)
        return Choice(next(named, BASE), "so the tests say")


class Records:
    """Keeps receipts, and counts them towards their request as the recorder does."""

    def __init__(self) -> None:
        self.kept: list[Receipt] = []
        self.left: list[Receipt] = []

    async def record(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        used(receipt)
        self.kept.append(receipt)

    def record_cancelled(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        used(receipt)
        self.left.append(receipt)

    def enter(self, waiting: Waiting) -> None:
        self.kept.append(waiting.receipt)


@dataclass
class World:
    """Asker and chatter over peers of the tests' own."""

    asker: Asker
    chatter: Chatter
    retriever: Any
    generator: Generator
    registry: Registry
    embedder: Embedder
    records: Records
    chooser: Chooser
    spans: list[str] = field(default_factory=list)


def world(
    tmp_path,
    *pieces: str,
    clock: Callable[[], float] = lambda: 0.0,
    traced: Tracer | None = None,
    policing: Policing | None = None,
) -> World:
    retriever, generator, registry, embedder = Retriever(), Generator(*pieces), Registry(), Embedder()
    records = Records()
    recorder: Any = records
    chooser: Any = Chooser(child="families")
    router = Router(registry, generator, chooser)
    answerer = Answerer(generator, recorder, router, policing)
    spans: list[str] = []

    @contextmanager
    def trace(name: str, seconds: float = 0.0):
        spans.append(name)
        yield None

    tracer = traced or trace
    asker = Asker(router, retriever, generator, embedder, answerer, clock, lambda: 1.0, new_id, tracer)
    chatter = Chatter(router, answerer, clock, new_id, tracer)
    return World(asker, chatter, retriever, generator, registry, embedder, records, chooser, spans)


@dataclass(frozen=True)
class Heard:
    """All that came of one question."""

    first: Any
    text: str
    last: Any
    pieces: tuple[str, ...]


def asking(text: str = "How much is a day ticket?", **named) -> Question:
    wish = named.pop("wish", Wish(model="desk", request_id="00000000-0000-4000-8000-000000000000"))
    return Question(text, wish, Scope(("ferry",)), **named)


async def heard(place: World, question: Question, request: RequestContext = ASKING) -> Heard:
    with serving(replace(request)):
        async with asyncio.timeout(HANG_SECONDS):
            events = [event async for event in place.asker.ask(question)]
    pieces = tuple(event.text for event in events if isinstance(event, TextDelta))
    return Heard(events[0], "".join(pieces), events[-1], pieces)
