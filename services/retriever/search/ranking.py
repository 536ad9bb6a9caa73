"""From raw lists to one order, and how each chunk came to its place in it.

Invariant: the order depends on what is asked and found alone: not on the order of the
queries, nor on how often one is said.
"""

from collections.abc import Mapping, Sequence

from services.retriever.search import combining, fusion
from services.retriever.search.arms import Lists
from services.retriever.search.question import Fusion, Mode, Place, Question, Ranked

_ARMS = ("dense", "sparse")


def order(question: Question, lists: Sequence[Lists]) -> list[Ranked]:
    """The fused order: a list for each query, and these as ``combining`` says when there are several."""
    each = [_total(_parts(question, it)) for it in lists]
    asked = [it for it in lists if it.weight == 1.0]
    return [
        Ranked(
            hit.chunk,
            hit.score,
            dense=_best(hit.chunk, [it.dense for it in asked]),
            sparse=_best(hit.chunk, [it.sparse for it in asked]),
        )
        for hit in fusion.ordered(fusion.summed(combining.shares(each, [it.weight for it in lists], question.fusion)))
    ]


def places(question: Question, lists: Sequence[Lists], chunks: Sequence[int]) -> dict[int, tuple[Place, ...]]:
    """By chunk its place in every list that holds it or counted it."""
    found: dict[int, list[Place]] = {chunk: [] for chunk in chunks}
    all_parts = [_parts(question, it) for it in lists]
    totals = [_total(parts) for parts in all_parts]
    shares = combining.shares(totals, [it.weight for it in lists], question.fusion)
    for query, (it, parts) in enumerate(zip(lists, all_parts, strict=True)):
        for arm, raw in zip(_ARMS, (it.dense, it.sparse), strict=True):
            _add(found, arm, query, raw, it.near if arm == "dense" else raw, parts.get(arm, {}))
        if len(lists) > 1:
            _add(found, "query", query, totals[query], totals[query], shares[query])
    return {chunk: tuple(its) for chunk, its in found.items()}


def _add(
    found: dict[int, list[Place]],
    name: str,
    query: int,
    ranked: Mapping[int, float],
    scores: Mapping[int, float],
    parts: Mapping[int, float],
) -> None:
    ranks = {hit.chunk: rank for rank, hit in enumerate(fusion.ordered(ranked), start=1)}
    for chunk, its in found.items():
        if chunk in ranks or chunk in parts:
            its.append(Place(name, query, ranks.get(chunk, 0), scores[chunk], parts.get(chunk, 0.0)))


def _parts(question: Question, lists: Lists) -> dict[str, dict[int, float]]:
    """What each arm adds to the score of a chunk, for one query."""
    if question.mode is Mode.DENSE:
        return {"dense": lists.dense}
    if question.mode is Mode.SPARSE:
        return {"sparse": lists.sparse}
    if question.fusion is Fusion.SCORE:
        return dict(zip(_ARMS, fusion.score_parts(lists.near, lists.sparse, question.dense_weight), strict=True))
    arms = (lists.dense, lists.sparse)
    ranked = [fusion.by_rank([[hit.chunk for hit in fusion.ordered(arm)]]) for arm in arms]
    return dict(zip(_ARMS, ranked, strict=True))


def _total(parts: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    return fusion.summed(parts.values())


def _best(chunk: int, lists: Sequence[Mapping[int, float]]) -> float | None:
    return max((scores[chunk] for scores in lists if chunk in scores), default=None)
