"""How well the retriever finds on a judged set, beside its own parts and beside plain fusions of a baseline's two lists."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.retriever.search.question import Mode
from tests.load.retriever import baseline
from tests.load.retriever.library import Library, opened
from tests.load.retriever.ranked import Difference, difference, ndcg
from tests.load.retriever.sets import JudgedSet
from tests.load.retriever.vectors import Encoder

# The way that a search goes when nothing is said.
DEFAULT = "hybrid"
CONVEX = "convex"
_RERANKED = 40
_WAYS = (
    ("sparse", Mode.SPARSE, 0),
    ("dense", Mode.DENSE, 0),
    (DEFAULT, Mode.HYBRID, 0),
    ("rerank", Mode.HYBRID, _RERANKED),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """nDCG@10 of every question, by way; seconds for bringing the set in and a search, by way."""

    name: str
    ways: Mapping[str, Sequence[float]]
    fill_seconds: float
    search_seconds: Mapping[str, float]
    failed: Sequence[str]

    def mean(self, way: str) -> float:
        """The way's nDCG@10."""
        return sum(self.ways[way]) / len(self.ways[way])

    @property
    def gain(self) -> Difference:
        """The default over the convex fusion of the baseline's lists."""
        return difference(self.ways[DEFAULT], self.ways[CONVEX])


async def measured(judged: JudgedSet, encoder: Encoder, *, rerank: bool) -> Measured:
    """Every way over one set; reranking, which takes most of the time, if it is wanted."""
    ways: dict[str, list[float]] = {}
    for corpus in judged.corpora:
        plain = baseline.measured(corpus, judged.passage_words, encoder)
        for way, lists in (("bm25", plain.bm25), ("minilm", plain.minilm), ("rrf", plain.rrf), (CONVEX, plain.convex)):
            ways.setdefault(way, []).extend(
                ndcg(scores, asked.gold) for scores, asked in zip(lists, corpus.questions, strict=True)
            )
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), encoder) as library:
            begun = time.perf_counter()
            for corpus in judged.corpora:
                await library.fill(corpus)
            fill_seconds = time.perf_counter() - begun
            ours, seconds = await _asked(judged, library, _WAYS if rerank else _WAYS[:-1])
    encoder.forget_states()
    return Measured(judged.name, {**ours, **ways}, fill_seconds, seconds, library.failed)


async def _asked(
    judged: JudgedSet, library: Library, ways: Sequence[tuple[str, Mode, int]]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    found: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for way, mode, rerank in ways:
        begun = time.perf_counter()
        found[way] = [
            ndcg(await library.search(corpus.name, asked.text, mode, rerank=rerank), asked.gold)
            for corpus in judged.corpora
            for asked in corpus.questions
        ]
        seconds[way] = (time.perf_counter() - begun) / len(found[way])
    return found, seconds
