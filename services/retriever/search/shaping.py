"""What is done with a fused order: reranking, collapse, diversity, sections, in this turn.

Invariant: a stage only drops, moves or widens what the order holds; what one hit stands
for is named by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from services.retriever.search import diversity, duplicates, passages, sections
from services.retriever.search.question import Question, Ranked
from services.retriever.search.reranking import Scores

# More places than asked for that are looked at, since some may fall together.
_FURTHER = 4
_LEAST = 100


def reader(
    tenant: str, question: Question, order: Sequence[Ranked], scores: Scores | None
) -> Callable[[Session], list[Ranked]]:
    """What shapes the order, given a session to read the catalog with."""

    def read(session: Session) -> list[Ranked]:
        if scores is None and not question.shape.looks_further:
            return list(order)
        looked = order[: max(_LEAST, _FURTHER * question.top_k, question.shape.rerank_depth)]
        held = passages.materials(session, tenant, [it.chunk for it in looked])
        shaped = [it for it in looked if it.chunk in held]
        if scores is not None:
            shaped = scores.applied(shaped, {chunk: it.indexed_text for chunk, it in held.items()})
        if question.shape.collapse:
            texts = {chunk: it.text for chunk, it in held.items()}
            shaped = _collapsed(shaped, texts, question.shape.similarity)
        if question.shape.diversity is not None:
            vectors = passages.vectors(session, tenant, [it.chunk for it in shaped])
            relevance = relevances(shaped, scores)
            chosen = diversity.diversified(
                [it.chunk for it in shaped], relevance, vectors, question.shape.diversity, question.top_k
            )
            by_chunk = {it.chunk: it for it in shaped}
            shaped = [by_chunk[chunk] for chunk in chosen]
        if question.shape.section_characters:
            numbers = sorted({held[it.chunk].document_number for it in shaped})
            placed = sections.sections_of(session, tenant, numbers)
            shaped = _widened(shaped, placed, held, question)
        return shaped

    return read


def relevances(order: Sequence[Ranked], scores: Scores | None) -> dict[int, float]:
    """Relevance in [0, 1], falling along the order: reranked places are above the others."""
    head = [it for it in order if it.rerank is not None]
    tail = [it for it in order if it.rerank is None]
    greatest = max((it.score for it in tail), default=0.0)
    scale = 0.5 if head else 1.0
    low = {it.chunk: scale * max(0.0, it.score) / greatest if greatest > 0 else 0.0 for it in tail}
    mixed = scores.mixed(head) if scores is not None and head else []
    return {**{it.chunk: 0.5 + score / 2 for it, score in zip(head, mixed, strict=True)}, **low}


def _collapsed(order: Sequence[Ranked], texts: dict[int, str], similarity: float) -> list[Ranked]:
    by_chunk = {it.chunk: it for it in order}
    groups = duplicates.grouped(list(by_chunk), texts, similarity)
    return [replace(by_chunk[best], duplicates=tuple(others)) for best, *others in groups]


def _widened(
    order: Sequence[Ranked],
    placed: dict[int, sections.Section],
    held: dict[int, passages.Material],
    question: Question,
) -> list[Ranked]:
    by_chunk = {it.chunk: it for it in order if it.chunk in placed}
    windows = sections.widened(list(by_chunk), placed, question.top_k, question.shape.section_characters)
    return [
        replace(
            by_chunk[it.chunk],
            window=(held[it.chunk].version, it.start, it.end),
            merged=it.merged,
            duplicates=tuple(other for chunk in (it.chunk, *it.merged) for other in by_chunk[chunk].duplicates),
        )
        for it in windows
    ]
