"""The gateway's asker over leaves in this process: the retriever's and the embedder's own objects, and an engine's server.

Nothing crosses a wire but what the engine is asked; nobody asks who asks, and nothing is recorded.  What it then takes is
the floor of an answer with sources.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import aiohttp
import numpy as np

from gateway.answering import Answerer
from gateway.asking.asker import Asker
from gateway.asking.retrieval import Answerability, Found, Scope, Source
from gateway.asking.stages import Span
from gateway.auto.choosing import Chooser
from gateway.generation import (
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
from gateway.generator import GenerationRequest, PromptSize
from gateway.receipts import Recorder
from gateway.routing import Registry, Router
from services.chassis.runtime import new_id
from services.embedder.embedding import Asking, Embedder, Use, Wanted
from services.retriever.documents.readers import SERVICE
from services.retriever.ingestion.embeddings import EncoderFacts, Vectors
from services.retriever.search.question import Fusion, Hit, Mode, Question
from tests.load.embedder import local
from tests.load.gateway.bare_engine import BASE_NAME
from tests.load.retriever import library
from tests.load.retriever.library import TENANT, Library
from tests.load.retriever.sets import Corpus

_DATA = b"data: "
_SPECIAL_TOKENS = 2


class LocalVectors:
    """The embedder's verbs as both the gateway and the retriever use them."""

    def __init__(self, embedder: Embedder, facts: EncoderFacts) -> None:
        self._embedder = embedder
        self._facts = facts

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """As :class:`gateway.asking.support.Embedder`."""
        rows: list[list[float]] = (await self._rows(texts, Use.DOCUMENT)).tolist() if texts else []
        return rows

    def of(self, _: str) -> "LocalVectors":
        """There is one model."""
        return self

    async def find(self, _: str) -> EncoderFacts:
        """There is one model."""
        return self._facts

    async def facts(self) -> EncoderFacts:
        """As :class:`services.retriever.ingestion.embeddings.Embeddings`."""
        return self._facts

    async def count(self, texts: Sequence[str]) -> list[int]:
        """As the Protocol says."""
        counted = await self._embedder.count(Asking(TENANT), "", tuple(texts))
        return [tokens - _SPECIAL_TOKENS for tokens in counted.token_counts]

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """As the Protocol says."""
        return self._packed(await self._rows(texts, Use.DOCUMENT))

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        """As the Protocol says."""
        return self._packed(await self._rows(texts, Use.QUERY))

    async def rerank(self, query: str, passages: Sequence[str], model: str = "") -> list[float]:
        """No search of the pipeline asks for it."""
        raise NotImplementedError("the pipeline searches without a reranker, as the suite beside it does")

    async def _rows(self, texts: Sequence[str], use: Use) -> Any:
        wanted = Wanted("", tuple(texts), use, no_store=True)
        return (await self._embedder.embed(Asking(TENANT), wanted, patient=True)).vectors

    def _packed(self, rows: Any) -> Vectors:
        return Vectors(self._facts.digest, tuple(row.astype("<f2").tobytes() for row in np.asarray(rows)))


class LocalRetriever:
    """The retriever's search as the gateway uses it.  Summaries and counts are not asked for here."""

    def __init__(self, found_by: Library) -> None:
        self._library = found_by

    async def search(
        self, scope: Scope, query: str, top_k: int, *, shallow: bool = False, within_seconds: float | None = None
    ) -> Found:
        """As :class:`gateway.asking.retrieval.Retriever`."""
        question = Question(
            collections=scope.collections,
            queries=(query,),
            top_k=top_k,
            mode=Mode.HYBRID,
            fusion=Fusion.SCORE,
            dense_weight=self._library.settings.dense_weight,
            metadata_equals={},
            documents=(),
            viewer=SERVICE,
        )
        found = await self._library.searching.search(TENANT, question)
        told = found.answerability
        return Found(
            tuple(_source(marker, hit) for marker, hit in enumerate(found.hits, start=1)),
            tuple(StageTiming(stage, seconds, 1) for stage, seconds in found.seconds.items()),
            None if told is None else Answerability(told.score, told.threshold, told.answerable),
        )


def _source(marker: int, hit: Hit) -> Source:
    where = hit.passage
    chunk = f"{where.chunk:016x}"
    span = SourceSpan(where.collection, where.document, where.version, where.start, where.end, chunk, marker)
    return Source(span, hit.title, hit.heading_path, hit.text, hit.ranked.score)


class ServedEngine:
    """``vllm serve`` as the gateway uses the generator; there are no versions."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Opening | TextDelta | Generated]:
        """As :class:`gateway.generator.Generator`, greedy and without an end of its own."""
        began = time.perf_counter()
        body = {
            "model": BASE_NAME,
            "messages": _turns(cast("Sequence[Message]", request.prompt)),
            "max_tokens": request.sampling.max_tokens,
            "temperature": request.sampling.temperature,
            "ignore_eos": request.sampling.ignore_eos,
            "seed": request.sampling.seed,
            "stream": True,
        }
        receipt = Receipt(request.request_id, sources=request.sources)
        yield Opening(receipt)
        tokens = 0
        async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    text = json.loads(line.removeprefix(_DATA))["choices"][0]["delta"].get("content")
                    tokens += bool(text)
                    yield TextDelta(text or "", tokens=bool(text))
        took = StageTiming("generate", time.perf_counter() - began, tokens)
        yield Generated(FinishReason.LENGTH, Usage(completion_tokens=tokens), (took,), receipt)

    async def size(self, messages: Sequence[Message], base: str, version: str) -> PromptSize:
        """As the Protocol says."""
        body = {"model": BASE_NAME, "messages": _turns(messages), "add_generation_prompt": True}
        async with self._session.post(f"{self._url}/tokenize", json=body) as answer:
            answer.raise_for_status()
            told = await answer.json()
        return PromptSize(told["count"], told["max_model_len"])

    async def prepare(self, version: str) -> None:
        """There is nothing to load."""

    async def engines(self) -> list[Any]:
        """Nobody asks."""
        return []

    async def resident_versions(self) -> frozenset[str]:
        """Nobody asks."""
        return frozenset()


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": turn.speaker.value, "content": turn.content} for turn in messages]


class NoRecords:
    """Keeps nothing."""

    async def record(self, *_: object) -> None:
        """Nothing."""

    def record_cancelled(self, *_: object) -> None:
        """Nothing."""

    def enter(self, *_: object) -> None:
        """Nothing."""


def _untraced(name: str, seconds: float = 0.0) -> AbstractContextManager[Span | None]:
    return nullcontext()


@asynccontextmanager
async def opened(folder: Path, corpus: Corpus, url: str, threads: int) -> AsyncIterator[Asker]:
    """An asker over ``corpus``, ingested here, and the engine that serves at ``url``."""
    found = local.prepared(threads)
    facts = found.encoder.facts
    async with local.embedder(found) as embedder:
        vectors = LocalVectors(embedder, EncoderFacts(facts.digest, facts.dimensions, facts.max_tokens))
        async with library.opened(folder, vectors) as kept, aiohttp.ClientSession() as session:
            await kept.fill(corpus)
            engine = ServedEngine(session, url)
            # The base needs neither, and nothing is recorded.
            router = Router(cast("Registry", None), engine, cast("Chooser", None))
            answerer = Answerer(engine, cast("Recorder", NoRecords()))
            retriever = cast("Any", LocalRetriever(kept))
            clock = time.perf_counter
            yield Asker(router, retriever, engine, vectors, answerer, clock, time.time, new_id, _untraced)
