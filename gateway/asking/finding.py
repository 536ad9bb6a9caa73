"""Looking for passages: deep as the collections say, and where that does not come in time, for keywords alone.

Invariant: what the caller got is told: a search that was to be reranked and was not, or that was made anew without
vectors, never looks like the one that was asked for.
"""

from dataclasses import replace

from gateway.asking.question import Question
from gateway.asking.retrieval import DEFAULT_TOP_K, Found, Retriever, marked
from gateway.asking.stages import BudgetSpentError, Stages
from services.chassis.errors import Code, Failure, Reason

# Of the retriever's own stages those that are ours too.
_OURS = ("embed", "expand", "rerank")
_UNRANKED = "the order of the search itself"
_SHALLOW = "passages by their keywords alone"
_LATE = {Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE}


class Finder:
    """Finds passages for a question."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    async def find(self, question: Question, query: str, stages: Stages) -> Found:
        """Passages for ``query``.  Raises as ``Retriever.search`` does."""
        try:
            return await self._search(question, query, stages, shallow=False)
        except BudgetSpentError as spent:
            stages.fell_back("retrieve", _SHALLOW, spent)
        except Failure as failure:
            # Without the retriever itself there is nothing to look in, for keywords neither.
            away = failure.reason is Reason.PEER_UNAVAILABLE and failure.variables.get("service") == "retriever"
            if failure.code not in _LATE or away:
                raise
            stages.fell_back("retrieve", _SHALLOW, failure)
        try:
            return await self._search(question, query, stages, shallow=True)
        except BudgetSpentError as spent:
            raise Failure(Reason.DEADLINE_EXCEEDED) from spent

    async def _search(self, question: Question, query: str, stages: Stages, *, shallow: bool) -> Found:
        """One search, timed as several stages: those that the retriever measured, and the rest of the call."""
        budget = "retrieve shallow" if shallow else "retrieve"
        async with stages.stage("retrieve", budget, timed=False) as stage:
            began = stages.now()
            found = await self._retriever.search(
                question.scope,
                query,
                question.top_k or DEFAULT_TOP_K,
                shallow=shallow,
                within_seconds=stage.budget_seconds,
            )
            elapsed = stages.now() - began
            theirs = [timing for timing in found.timings if timing.stage in _OURS]
            stage.elsewhere_seconds = sum(timing.seconds for timing in theirs)
            least = question.scope.ranking.score_threshold
            if least:
                found = replace(found, sources=marked([it for it in found.sources if it.score >= least]))
            stage.input_size = len(found.sources)
            stage.decision = f"{len(found.sources)} passages" + (" by keywords alone" if shallow else "")
        stages.measured(*theirs, decisions={"rerank": _UNRANKED if found.unranked else "its order"})
        stages.watch.measured("retrieve", max(0.0, elapsed - stage.elsewhere_seconds), len(found.sources))
        if found.unranked:
            stages.note("rerank", _UNRANKED, found.unranked)
        return found
