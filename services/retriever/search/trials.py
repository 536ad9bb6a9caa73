"""Ways to search, tried on questions whose documents are known, and the best of them that the evidence bears.

Invariant: a way is taken only when it is better than what was taken before beyond the 95 %
interval of the difference; a weight is judged on questions that it was not fitted on.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

from services.chassis.errors import Failure
from services.retriever.catalog import Collections
from services.retriever.collection import Change, Collection
from services.retriever.documents.documents import Documents
from services.retriever.documents.readers import Viewer
from services.retriever.search import tuning
from services.retriever.search.calibrating import Calibration, calibrated
from services.retriever.search.intervals import mean, paired
from services.retriever.search.question import ExpansionKind, Found, Fusion, Mode, Question
from services.retriever.search.remembering import Remembering
from services.retriever.search.search import Search
from services.retriever.search.settings import Hyde, SearchSettings, Stated
from services.retriever.search.tuning import Example, Fit

_TOP_K = 50
_RERANK_DEPTH = 40
# What a text is waited for that decides whether its way is worth storing.
_EXPAND_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and the documents that answer it."""

    question: str
    documents: frozenset[str]


@dataclass(frozen=True, slots=True)
class Measured:
    """Of each question nDCG@10 and recall@10 by documents, and the mean seconds of a search."""

    ndcg: tuple[float, ...]
    recall: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A way that was tried: its means, and its gain in nDCG@10 over what was taken before with its 95 % interval.

    ``note`` says why it was not measured, on how few questions it had a part, or of which ones the gain is.
    """

    name: str
    settings: SearchSettings
    ndcg: float = 0.0
    recall: float = 0.0
    gain: float = 0.0
    low: float = 0.0
    high: float = 0.0
    seconds: float = 0.0
    taken: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """How far the trial of this name is, in questions."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """All trials, the settings and the threshold that the evidence bears, and whether the collection has them now."""

    trials: tuple[Trial, ...]
    settings: SearchSettings
    calibration: Calibration | None
    applied: bool


@dataclass(frozen=True, slots=True)
class Tuner:
    """The verb."""

    search: Search
    collections: Collections
    documents: Documents
    dense_weight: float

    async def tune(
        self,
        tenant: str,
        collection: str,
        pairs: Sequence[Pair],
        viewer: Viewer,
        *,
        unanswerable: Sequence[str] = (),
        apply: bool,
    ) -> AsyncGenerator[Step | Verdict]:
        """Try every way in turn, each on top of what was taken before; the verdict comes last.

        With ``apply`` the collection gets its settings: the best that are better beyond the interval, else the simplest;
        and where ``unanswerable`` has questions that its documents do not answer, the threshold that tells them apart.
        Raises COLLECTION_NOT_FOUND, DOCUMENT_NOT_FOUND, QUESTION_EMPTY, PEER_UNAVAILABLE.
        """
        stored = await self.collections.get(tenant, collection)
        for document in sorted({document for pair in pairs for document in pair.documents}):
            await self.documents.get(tenant, collection, document, viewer)
        generator = Remembering(self.search.expander.generator)
        expander = replace(self.search.expander, generator=generator, most_seconds=_EXPAND_SECONDS)
        run = Run(
            replace(self.search, expander=expander),
            generator,
            tenant,
            collection,
            pairs,
            viewer,
            self.dense_weight,
            stored,
        )
        async for step in run.trials():
            yield step
        if unanswerable:
            async for step in run.calibrate(unanswerable):
                yield step
        # No way to search: questions say nothing of it.
        wanted = replace(run.settings, abstention=stored.search_settings.abstention)
        if run.undecided:
            wanted = replace(wanted, questions_per_chunk=run.undecided)
        if apply:
            threshold = run.calibration.threshold if run.calibration else None
            await self.collections.update(tenant, collection, Change(settings=wanted, answerable_threshold=threshold))
        yield Verdict(tuple(run.done), wanted, run.calibration, apply)


@dataclass(slots=True)
class Run:
    """One tuning: what was tried, and what was taken so far."""

    search: Search
    generator: Remembering
    tenant: str
    collection: str
    pairs: Sequence[Pair]
    viewer: Viewer
    dense_weight: float
    stored: Collection
    settings: SearchSettings = field(default_factory=SearchSettings)
    undecided: int = 0
    done: list[Trial] = field(default_factory=list)
    calibration: Calibration | None = None
    _best: Measured | None = None
    _note: str = ""

    async def trials(self) -> AsyncGenerator[Step]:
        """Everything, in the order of what it costs; the default first."""
        simplest = SearchSettings()
        for name, settings in (
            ("default", simplest),
            ("keywords alone", replace(simplest, mode=Mode.SPARSE)),
            ("vectors alone", replace(simplest, mode=Mode.DENSE)),
        ):
            async for step in self._try(name, settings):
                yield step
        async for step in self._fit():
            yield step
        async for step in self._questions():
            yield step
        async for step in self._try("reranking", replace(self.settings, rerank=True)):
            yield step
        for name, changes in (
            ("written passage where weak", {"hyde": Hyde.WEAK}),
            ("written passage always", {"hyde": Hyde.ALWAYS}),
            ("question broken up", {"decompose": True}),
        ):
            settings = replace(self.settings, **changes)
            if (problem := await self._no_writer()) is not None:
                self.done.append(Trial(name, settings, note=f"not measured: {problem}"))
                continue
            async for step in self._try(name, settings):
                yield step

    async def calibrate(self, unanswerable: Sequence[str]) -> AsyncGenerator[Step]:
        """Fit the threshold of answers; scores are of the question itself, whatever way of searching was taken."""
        asked = [*(pair.question for pair in self.pairs), *unanswerable]
        scores = []
        for number, question in enumerate(asked):
            yield Step("answerability", number, len(asked))
            found = await self.search.search(self.tenant, self._question(question, top_k=1))
            scores.append(0.0 if found.answerability is None else found.answerability.score)
        yield Step("answerability", len(asked), len(asked))
        self.calibration = calibrated(scores[: len(self.pairs)], scores[len(self.pairs) :])

    async def _questions(self) -> AsyncGenerator[Step]:
        """Question vectors, where all chunks have theirs; until then nobody can say what they are worth."""
        settings = replace(self.settings, questions_per_chunk=self.stored.search_settings.questions_per_chunk)
        progress = self.stored.questions
        if progress is None:
            note = "not measured: none are written; set questions_per_chunk first"
        elif progress.done < progress.chunks:
            note = f"not measured: written for {progress.done} of {progress.chunks} chunks"
            # Not judged, so it stays as it is.
            self.undecided = settings.questions_per_chunk
        else:
            async for step in self._try("question vectors", settings):
                yield step
            return
        self.done.append(Trial("question vectors", settings, note=note))

    async def _no_writer(self) -> str | None:
        try:
            await self.generator.writer()
        except Failure as failure:
            return failure.sentence
        return None

    async def _try(self, name: str, settings: SearchSettings, judged: Sequence[float] = ()) -> AsyncGenerator[Step]:
        """Measure, and take it where it is better beyond the interval.

        ``judged`` are scores to judge it by, where those of the search itself would flatter it.
        """
        ndcg, recall, spent, expanded = [], [], 0.0, 0
        for number, pair in enumerate(self.pairs):
            yield Step(name, number, len(self.pairs))
            self.generator.saved_seconds = 0.0
            began = time.perf_counter()
            found = await self._search(pair, settings)
            spent += time.perf_counter() - began + self.generator.saved_seconds
            expanded += any(it.applied for it in found.expansions if it.kind is not ExpansionKind.QUESTION_VECTORS)
            ranked = _documents(found)
            ndcg.append(tuning.ndcg(ranked, pair.documents))
            recall.append(len(pair.documents.intersection(ranked[: tuning.CUT])) / len(pair.documents))
        yield Step(name, len(self.pairs), len(self.pairs))
        measured = Measured(tuple(ndcg), tuple(recall), spent / len(self.pairs))
        note = "the gain is of questions that it was not fitted on" if judged else ""
        if settings.expands:
            note = f"had a part in {expanded} of {len(self.pairs)} questions"
        self._judge(name, settings, measured, tuple(judged) or measured.ndcg, note)

    def _judge(
        self, name: str, settings: SearchSettings, measured: Measured, scores: Sequence[float], note: str
    ) -> None:
        gain, low, high = (0.0, 0.0, 0.0) if self._best is None else paired(scores, self._best.ndcg)
        taken = self._best is None or low > 0
        means = mean(measured.ndcg), mean(measured.recall)
        self.done.append(Trial(name, settings, *means, gain, low, high, measured.seconds, taken, note))
        if taken:
            self.settings, self._best = settings, measured

    async def _fit(self) -> AsyncGenerator[Step]:
        """The weight of vectors: fitted on one half of the questions and judged on the other, both ways.

        Fitted on the plain fusion of both lists, which is quick, and judged by the search itself.
        """
        examples = []
        for number, pair in enumerate(self.pairs):
            yield Step("fitting the weight", number, len(self.pairs))
            examples.append(await self._example(pair))
        judged = [0.0] * len(examples)
        for first, others in enumerate((examples[1::2], examples[::2])):
            settings = _weighted(tuning.fitted(others, self.dense_weight))
            for number in range(first, len(examples), 2):
                yield Step("judging the weight", number, len(self.pairs))
                pair = self.pairs[number]
                judged[number] = tuning.ndcg(_documents(await self._search(pair, settings)), pair.documents)
        whole = tuning.fitted(examples, self.dense_weight)
        settings = _weighted(whole)
        name = f"weight {whole.weight:.2f}" if whole.mode is Mode.HYBRID else f"fitted: {whole.mode.value} alone"
        async for step in self._try(name, settings, judged):
            yield step

    async def _search(self, pair: Pair, settings: SearchSettings) -> Found:
        question = self._question(pair.question)
        return await self.search.search(self.tenant, question, _stated(settings, self.dense_weight))

    async def _example(self, pair: Pair) -> Example:
        lists, documents = await self.search.raw(self.tenant, self._question(pair.question))
        return Example(lists.near, lists.sparse, frozenset(pair.documents), documents)

    def _question(self, query: str, top_k: int = _TOP_K) -> Question:
        weight = self.dense_weight
        return Question((self.collection,), (query,), top_k, Mode.HYBRID, Fusion.SCORE, weight, {}, (), self.viewer)


def _weighted(fit: Fit) -> SearchSettings:
    return SearchSettings(dense_weight=fit.weight) if fit.mode is Mode.HYBRID else SearchSettings(mode=fit.mode)


def _documents(found: Found) -> list[str]:
    """In order, each once."""
    return list(dict.fromkeys(hit.passage.document for hit in found.hits))


def _stated(settings: SearchSettings, dense_weight: float) -> Stated:
    """All of it, so that what the collection has stored has no part."""
    return Stated(
        mode=settings.mode or Mode.HYBRID,
        dense_weight=dense_weight if settings.dense_weight is None else settings.dense_weight,
        rerank=settings.rerank,
        rerank_depth=_RERANK_DEPTH,
        rerank_model=settings.rerank_model,
        hyde=settings.hyde,
        decompose=settings.decompose,
        question_vectors=settings.questions_per_chunk > 0,
    )
