"""From raw lists to one order, and how each chunk came to its place in it.

Invariant: the order depends on what is asked and found alone: not on the order of the
queries, nor on how often one is said.
"""

from collections.abc import Mapping, Sequence

from services.retriever.search import fusion
from services.retriever.search.arms import Lists
from services.retriever.search.question import Fusion, Mode, Place, Question, Ranked

_ARMS = ("dense", "sparse")


def order(question: Question, lists: Sequence[Lists]) -> list[Ranked]:
    """The fused order: a list for each query, and these by rank when there are several."""
    each = [fusion.ordered(_total(_parts(question, it))) for it in lists]
    several = fusion.by_rank([[hit.chunk for hit in one] for one in each]) if len(each) > 1 else {}
    return [
        Ranked(
            hit.chunk,
            hit.score,
            dense=_best(hit.chunk, [it.dense for it in lists]),
            sparse=_best(hit.chunk, [it.sparse for it in lists]),
        )
        for hit in (fusion.ordered(several) if several else each[0])
    ]


def places(question: Question, lists: Sequence[Lists], chunks: Sequence[int]) -> dict[int, tuple[Place, ...]]:
    """By chunk its place in every list that holds it or counted it."""
    found: dict[int, list[Place]] = {chunk: [] for chunk in chunks}
    for query, it in enumerate(lists):
        parts = _parts(question, it)
        for arm, raw in zip(_ARMS, (it.dense, it.sparse), strict=True):
            _add(found, arm, query, raw, it.near if arm == "dense" else raw, parts.get(arm, {}))
        if len(lists) > 1:
            fused = _total(parts)
            ranked = fusion.by_rank([[hit.chunk for hit in fusion.ordered(fused)]])
            _add(found, "query", query, fused, fused, ranked)
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
