"""Looking for more than the question's own words: a passage that might answer it, and the simpler questions in it.

Invariant: a search never fails, and is never late, because its expansion is: without a text
in time only the question itself is looked for, and the outcome says why.
"""

import asyncio
import re
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.chassis.context import current_or_none
from services.chassis.errors import Failure, Reason
from services.retriever.generation import Generator, Speaker, Turn
from services.retriever.index.index import Vector
from services.retriever.ingestion.embeddings import Embeddings, Vectors
from services.retriever.search.arms import Lists
from services.retriever.search.question import Expansion, ExpansionKind
from services.retriever.search.settings import Hyde, Plan

# Left to search for what was written, and to answer.
_RESERVE_SECONDS = 0.75
_LEAST_SECONDS = 0.1
_PASSAGE_TOKENS = 96
_PARTS_TOKENS = 80
_MOST_PARTS = 3
_MOST_CHARACTERS = 2000
# What all texts of one way count beside the question itself.
_WEIGHT = 0.5
# A first pass is weak under this cosine, or where this many passages are as near as that.
_NEAR = 0.45
_FLAT_PLACES = 10
_FLAT_MARGIN = 0.06
_NUMBERING = re.compile(r"^\s*(?:[-*•]|\(?\d+[.):]|[a-z][.)])\s*", re.IGNORECASE)

_PASSAGE = Turn(Speaker.SYSTEM, "You write passages of reference documents: plain facts, no introduction.")
_PARTS = Turn(Speaker.SYSTEM, "You break questions up for a search engine.")


@dataclass(frozen=True, slots=True)
class Extra:
    """One more text that is looked for: by keywords in ``words`` ("": not at all), and by its vector, [dimensions]."""

    words: str
    vector: Vector | None
    weight: float


@dataclass(frozen=True, slots=True)
class Expanded:
    """What came of one way: what else to look for, and the outcome that is told."""

    extras: tuple[Extra, ...]
    outcome: Expansion


@dataclass(frozen=True, slots=True)
class Expander:
    """Asks the generator for texts and the embedder for their vectors."""

    generator: Generator
    embeddings: Embeddings
    most_seconds: float

    async def expanded(self, plan: Plan, digest: str, *, weak: bool) -> list[Expanded]:
        """What came of each way that is on.

        ``digest`` is the embedding model's, empty where only keywords are looked for; ``weak`` says whether the question
        alone finds little.
        """
        query = plan.question.queries[0][:_MOST_CHARACTERS]
        ways: list[Awaitable[Expanded]] = []
        if plan.hyde is not Hyde.OFF:
            ways.append(self._hyde(query, digest, wanted=weak or plan.hyde is Hyde.ALWAYS))
        if plan.decompose:
            ways.append(self._in_time(ExpansionKind.DECOMPOSITION, self._parts(query, digest)))
        return list(await asyncio.gather(*ways))

    async def _hyde(self, query: str, digest: str, *, wanted: bool) -> Expanded:
        if not digest:
            return _without(ExpansionKind.HYDE, "only keywords are looked for, or nothing is there yet")
        if not wanted:
            return _without(ExpansionKind.HYDE, "the question itself finds something near")
        return await self._in_time(ExpansionKind.HYDE, self._passage(query, digest))

    async def _in_time(self, kind: ExpansionKind, work: Coroutine[Any, Any, dict[str, Extra]]) -> Expanded:
        seconds = self._seconds()
        if seconds < _LEAST_SECONDS:
            work.close()
            return _without(kind, "no time was left for it before the deadline")
        try:
            async with asyncio.timeout(seconds):
                extras = await work
        except TimeoutError:
            return _without(kind, f"it took more than the {seconds:.2f} s that were left for it")
        except Failure as failure:
            return _without(kind, failure.sentence)
        if not extras:
            return _without(kind, "the generator wrote nothing of use")
        return Expanded(tuple(extras.values()), Expansion(kind, True, "", tuple(extras)))

    async def _passage(self, query: str, digest: str) -> dict[str, Extra]:
        """A passage that might answer: where it is wrong, its neighbours are still of its kind; its words would mislead."""
        asked = Turn(Speaker.USER, f"Write two sentences of the document that answers this question: {query}")
        written = await self.generator.complete([_PASSAGE, asked], _PASSAGE_TOKENS)
        text = " ".join(written.text.split())
        if not text:
            return {}
        (vector,) = _vectors(await self.embeddings.of(digest).documents([text]), digest)
        return {text: Extra("", vector, _WEIGHT)}

    async def _parts(self, query: str, digest: str) -> dict[str, Extra]:
        """Simpler questions, and a broader one (step-back prompting, arXiv 2310.06117)."""
        wanted = f"two simpler questions that it is made of, then one broader question. One a line.\n\n{query}"
        asked = Turn(Speaker.USER, f"Write {wanted}")
        written = await self.generator.complete([_PARTS, asked], _PARTS_TOKENS)
        texts = lines(written.text, but=query, complete=written.complete)[:_MOST_PARTS]
        if not texts:
            return {}
        vectors: list[Vector | None] = [None] * len(texts)
        if digest:
            vectors = [*_vectors(await self.embeddings.of(digest).queries(texts), digest)]
        return {text: Extra(text, vector, _WEIGHT / len(texts)) for text, vector in zip(texts, vectors, strict=True)}

    def _seconds(self) -> float:
        asking = current_or_none()
        left = asking.remaining_seconds() if asking is not None else None
        return self.most_seconds if left is None else min(self.most_seconds, left - _RESERVE_SECONDS)


def lines(text: str, *, but: str, complete: bool) -> list[str]:
    """The lines of a list that was written, without their numbering, each once; without the last where it was cut off."""
    written = text.strip().splitlines()
    whole = written if complete else written[:-1]
    stripped = (" ".join(_NUMBERING.sub("", line).split()) for line in whole)
    kept = {it.casefold(): it for it in reversed([*stripped]) if len(it.split()) > 1}
    kept.pop(" ".join(but.split()).casefold(), None)
    return list(reversed(kept.values()))


def weak(first: Sequence[Lists]) -> bool:
    """Whether a first pass finds nothing near its question, or many passages that are as near as the nearest."""
    near = sorted((score for lists in first for score in lists.dense.values()), reverse=True)
    if not near or near[0] < _NEAR:
        return True
    return len(near) >= _FLAT_PLACES and near[0] - near[_FLAT_PLACES - 1] < _FLAT_MARGIN


def _vectors(answer: Vectors, digest: str) -> list[Vector]:
    if answer.digest != digest:
        raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")
    return [np.frombuffer(packed, dtype="<f2").astype(np.float32) for packed in answer.packed]


def _without(kind: ExpansionKind, reason: str) -> Expanded:
    return Expanded((), Expansion(kind, False, reason, ()))
