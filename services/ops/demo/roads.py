"""Asks the demo's questions along four roads: the base, the adapter, and retrieval before each.

Invariant: an answer counts for a road only when its receipt names that road's version,
and a citation only when the retriever returns, for the span it points at, the very
characters that stood in the prompt.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from trivium_client import AsyncTrivium
from trivium_client.answers import Answer, Sampling, Source

from gateway.asking.prompt import Quotation
from services.ops.demo.adapter import MODEL
from services.ops.demo.library import COLLECTION
from services.ops.demo.recipe import SOURCES
from services.ops.demo.scoring import Question, Score, score
from services.ops.demo.stages import Bar, DemoError

# Answers of one line; a model that goes on talking is cut.
_SAMPLING = Sampling(max_tokens=48, temperature=0.0)
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Road:
    """One way to an answer."""

    name: str
    model: str
    retrieves: bool


ROADS = (
    Road("base", "base", retrieves=False),
    Road("adapter", MODEL, retrieves=False),
    Road("RAG over base", "base", retrieves=True),
    Road("RAG over adapter", MODEL, retrieves=True),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer on one road, checked."""

    road: Road
    question: Question
    answer: Answer
    seconds: float
    score: Score
    cited: tuple[Source, ...]


class WrongVersionError(DemoError):
    """An answer's receipt names weights that were not asked for."""


async def travel(client: AsyncTrivium, questions: Sequence[Question], version: str, bar: Bar) -> list[Reply]:
    """Ask every question on every road.  Raises WrongVersionError.

    `version` is what the adapter's alias serves.
    """
    room = asyncio.Semaphore(_AT_ONCE)
    replies: list[Reply] = []

    async def ask(road: Road, question: Question) -> Reply:
        async with room:
            reply = await _ask(client, road, question, version)
        replies.append(reply)
        bar.at(len(replies), len(ROADS) * len(questions), road.name)
        return reply

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(road, question)) for question in questions for road in ROADS]
    return [task.result() for task in tasks]


async def _ask(client: AsyncTrivium, road: Road, question: Question, version: str) -> Reply:
    begun = time.monotonic()
    answer = await client.answer(
        question.question,
        model=road.model,
        collections=[COLLECTION] if road.retrieves else [],
        top_k=SOURCES,
        sampling=_SAMPLING,
    )
    seconds = time.monotonic() - begun
    wanted = version if road.model == MODEL else ""
    if answer.version != wanted:
        raise WrongVersionError(
            f"{road.name} was answered by {answer.version or 'the base'}, not {wanted or 'the base'}"
        )
    sources = [Quotation(source.title, source.text) for source in answer.sources]
    cited = await _resolved(client, answer)
    given = score(question, answer.text, sources)
    return Reply(road, question, answer, seconds, given, cited)


async def _resolved(client: AsyncTrivium, answer: Answer) -> tuple[Source, ...]:
    """The sources that the answer cites and whose characters are where the citation says."""
    by_marker = {source.span.marker: source for source in answer.sources}
    cited = []
    for citation in answer.citations:
        span = citation.span
        there = await client.docs.text(
            span.document, collection=span.collection, version=span.version, start=span.start, end=span.end
        )
        source = by_marker[citation.marker]
        if there.text == source.text:
            cited.append(source)
    return tuple(cited)
