"""All questions of a subject through the gateway, by one model, with retrieval or without."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from trivium_client import AsyncTrivium
from trivium_client.answers import Answer, Sampling
from trivium_client.document_nouns import Span

from services.ops.supervisor import Suite
from tests.load.ask_quality.judging import Outcome, says_nothing_found
from tests.load.ask_quality.raft import SOURCES
from tests.load.ask_quality.subjects import Posed
from tests.load.finetune_quality.state import State

_AT_ONCE = 8
_SAMPLING = Sampling(max_tokens=96, temperature=0.0)


@dataclass(frozen=True, slots=True)
class Way:
    """One road to an answer."""

    name: str
    model: str
    retrieval: bool


async def outcomes(suite: Suite, state: State, way: Way, collection: str, asked: Sequence[Posed]) -> list[Outcome]:
    """What came of each question, in order; what is kept is not asked again."""
    name = f"{collection}-{way.model}-{'rag' if way.retrieval else 'bare'}"
    kept = state.read(name)
    if kept is not None:
        return [Outcome(**{**it, "cited": _spans(it["cited"]), "offered": _spans(it["offered"])}) for it in kept]
    async with AsyncTrivium(api_key=suite.api_key, addresses=suite.addresses) as client:
        found = await _all(client, way, collection, asked)
    state.write(name, [asdict(it) for it in found])
    return found


def _spans(kept: Sequence[Sequence[object]]) -> tuple[tuple[str, int, int], ...]:
    return tuple((str(document), int(str(start)), int(str(end))) for document, start, end in kept)


async def _all(client: AsyncTrivium, way: Way, collection: str, asked: Sequence[Posed]) -> list[Outcome]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(posed: Posed) -> Outcome:
        async with gate:
            began = time.perf_counter()
            answer = await client.answer(
                posed.text,
                model=way.model,
                collections=[collection] if way.retrieval else (),
                top_k=SOURCES if way.retrieval else 0,
                sampling=_SAMPLING,
            )
            return _outcome(answer, time.perf_counter() - began)

    return list(await asyncio.gather(*(one(posed) for posed in asked)))


def _outcome(answer: Answer, seconds: float) -> Outcome:
    return Outcome(
        text=answer.text,
        cited=tuple(_place(citation.span) for citation in answer.citations),
        offered=tuple(_place(source.span) for source in answer.sources),
        abstained=says_nothing_found(answer.text),
        seconds=seconds,
    )


def _place(span: Span) -> tuple[str, int, int]:
    return span.document, span.start, span.end
