"""From raw lists to one order, and how each chunk came to its place in it.

Invariant: the order depends on what is asked and found alone: not on the order of the
queries, nor on how often one is said.
"""

from collections.abc import Mapping, Sequence

from services.retriever.search import combining, fusion, neighbours
from services.retriever.search.arms import Lists
from services.retriever.search.question import Fusion, Mode, Place, Question, Ranked

_ARMS = ("dense", "sparse")
# How the keyword arm is made up where scores are fused; one setting for all of the public sets of `make bench NAME=retriever`.
_DOCUMENT_WEIGHT = 0.5
_FEEDBACK_WEIGHT = 0.3
# What stays first is above the rest by this.
_ABOVE = 1e-9


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
        _add_parts(found, query, it, parts)
        if len(lists) > 1:
            _add(found, "query", query, totals[query], totals[query], shares[query])
    return {chunk: tuple(its) for chunk, its in found.items()}


def _add_parts(found: dict[int, list[Place]], query: int, it: Lists, parts: Mapping[str, Mapping[int, float]]) -> None:
    ranked = {"dense": it.dense, "sparse": it.sparse}
    scores = {"dense": it.near}
    if it.again is not None:
        ranked |= {"feedback_dense": it.again.near, "feedback_sparse": it.again.sparse}
    for name in dict.fromkeys((*ranked, *parts)):
        raw = ranked.get(name, parts.get(name, {}))
        _add(found, name, query, raw, scores.get(name, raw), parts.get(name, {}))


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
        return _score_parts(lists, question.dense_weight)
    arms = (lists.dense, lists.sparse)
    ranked = [fusion.by_rank([arm]) for arm in arms]
    return dict(zip(_ARMS, ranked, strict=True))


def _score_parts(lists: Lists, dense_weight: float) -> dict[str, dict[int, float]]:
    """The parts of vectors, keywords, documents as a whole, and a second look, where there was one."""
    again = lists.again
    near, said = fusion.score_parts(again.near if again else lists.near, lists.sparse, dense_weight)
    if again is None:
        parts = {"dense": near, "sparse": said}
    else:
        _, more = fusion.score_parts({}, again.sparse, dense_weight)
        parts = {
            "feedback_dense": near,
            "sparse": _times(said, 1 - _FEEDBACK_WEIGHT),
            "feedback_sparse": _times(more, _FEEDBACK_WEIGHT),
        }
    words = [name for name in parts if name.endswith("sparse")]
    whole = neighbours.together(fusion.summed(parts[name] for name in words), lists.documents)
    if whole:
        parts |= {name: _times(parts[name], 1 - _DOCUMENT_WEIGHT) for name in words}
        parts["document"] = _times(whole, _DOCUMENT_WEIGHT * (1 - dense_weight))
    if again is not None:
        parts["kept"] = _lifts(_total(parts), again.kept)
    return parts


def _times(scores: Mapping[int, float], weight: float) -> dict[int, float]:
    return {chunk: weight * score for chunk, score in scores.items()}


def _lifts(scores: Mapping[int, float], kept: Sequence[Sequence[int]]) -> dict[int, float]:
    """What brings the kept ones above all others, the first of them above all; those that tied, above the same."""
    all_kept = {chunk for tied in kept for chunk in tied}
    best = max((score for chunk, score in scores.items() if chunk not in all_kept), default=0.0)
    lifts: dict[int, float] = {}
    for tied in reversed(kept):
        level = best + _ABOVE
        for chunk in tied:
            own = scores.get(chunk, 0.0)
            if level > own:
                lifts[chunk] = level - own
            best = max(best, own, level)
    return lifts


def _total(parts: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    return fusion.summed(parts.values())


def _best(chunk: int, lists: Sequence[Mapping[int, float]]) -> float | None:
    return max((scores[chunk] for scores in lists if chunk in scores), default=None)
