"""Whether the sources support what an answer says, sentence by sentence.

Words decide where they are clear: nearly all of a sentence's telling words stand in one source, or hardly any; a number or
a name that stands in none is never supported.  Between, the sentence's vector is compared with those of the sources'
sentences; of many with those that share most words with it, which is told.  What both leave unsupported the base may be
asked about.  The thresholds are measured (``python -m tests.load.ask_support``); neither words nor vectors tell a sentence
of which a name was changed for another one of the same source.
Invariant: a sentence is supported by one source; several that each hold a half of it support nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from itertools import zip_longest
from operator import mul
from typing import Protocol

from gateway.asking.citations import MARKER, numbers
from gateway.asking.retrieval import Source
from gateway.asking.sentences import literal, telling
from gateway.asking.source_sentences import Parts
from gateway.asking.stages import BudgetSpentError
from services.chassis.errors import Failure
from services.chassis.sources_prompt import NOT_FOUND

# Sentences of the sources that are embedded at once, and with which one of the answer is compared.
_MOST_COMPARED = 200


class Verdict(Enum):
    """Whether the sources support a sentence."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    NO_CLAIM = "no claim"


class Judge(Enum):
    """Who decided."""

    WORDS = "words"
    VECTORS = "vectors"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Judged:
    """A sentence at [start, end) of the answer; ``text`` is there for what was withheld, which stood at ``start``."""

    start: int
    end: int
    verdict: Verdict
    judge: Judge = Judge.WORDS
    words: float = 0.0
    similarity: float | None = None
    marker: int = 0
    withheld: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which share of a sentence's telling words on these decide by themselves, and under which; the cosine between.

    ``words_alone`` is the share where there are no vectors.  Measured on sentences that are made by code, which keep more
    words than a model's do: from where on words refuse is not told by them (0.3 to 0.7 differ by less than 0.002), so that
    vectors keep what may be put in other words.
    """

    words_support: float = 0.75
    words_refuse: float = 0.3
    words_alone: float = 0.7
    cosine_support: float = 0.88


DEFAULT = Thresholds()


class Embedder(Protocol):
    """The embedder as the gateway uses it.  Raises Failure; an unreachable one names itself."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of length 1 for each text, under the deployment's default model; nothing of them is kept."""


class Support:
    """Judges the sentences of one answer against its sources; these are embedded once, when first needed.

    ``fell_back`` is told when there are no vectors, or no time is left; ``ask_model`` asks the base whether a source says a
    sentence; ``narrowed`` is told once why sentences were not compared with all of the sources.  Whatever waits for others
    does so ``limited``; BudgetSpentError ends it.  ``thresholds`` are those that are measured, but for who measures them.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        embedder: Embedder,
        fell_back: Callable[[Failure | BudgetSpentError], None],
        ask_model: Callable[[str, Source], Awaitable[bool]] | None = None,
        thresholds: Thresholds = DEFAULT,
        narrowed: Callable[[str], None] = lambda _: None,
        limited: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        self._sources = sources
        self._held = [frozenset(telling(f"{source.title} {source.text}")) for source in sources]
        self._embedder = embedder
        self._fell_back = fell_back
        self._ask_model = ask_model
        self._thresholds = thresholds
        self._narrowed = narrowed
        # By the place of the part.
        self._vectors: dict[int, list[float]] = {}
        self._blind = self._late = self._told = False
        self._limited = limited

    async def judged(self, sentences: Sequence[tuple[int, str]]) -> list[Judged]:
        """Verdicts on sentences, each with where it begins in the answer; where the time ends, by words from there on."""
        plain = [self._by_words(start, text) for start, text in sentences]
        found = [self._without_vectors(it) for it in plain]
        if self._late:
            return found
        try:
            async with self._limited():
                await self._look_closer(plain, found, [text for _, text in sentences])
        except BudgetSpentError as spent:
            self._late = True
            self._fell_back(spent)
        return found

    async def _look_closer(self, plain: Sequence[Judged], found: list[Judged], texts: Sequence[str]) -> None:
        """Put better verdicts in the place of those that are ``found``, as they come."""
        open_ = [at for at, it in enumerate(plain) if self._undecided(it)]
        near = [self._parts.near(texts[at], _MOST_COMPARED) for at in open_]
        vectors = await self._embedded([MARKER.sub("", texts[at]).strip() for at in open_], near)
        for at, vector, places in zip(open_, vectors, near, strict=False):
            found[at] = self._by_vector(plain[at], vector, places)
        if self._ask_model is not None:
            for at, it in enumerate(found):
                if it.verdict is Verdict.UNSUPPORTED:
                    found[at] = await self._by_model(it, texts[at])

    def _by_words(self, start: int, text: str) -> Judged:
        end = start + len(text)
        words = telling(text)
        if not words or text.rstrip().endswith("?") or NOT_FOUND in text.casefold():
            return Judged(start, end, Verdict.NO_CLAIM)
        cited = {number for marker in MARKER.findall(text) for number in numbers(marker)}
        best, share, exact = 0, 0.0, literal(text)
        # The source that it cites first: of equals the earlier counts.
        order = sorted(range(len(self._sources)), key=lambda at: self._sources[at].span.marker not in cited)
        for at in order:
            held = sum(word in self._held[at] for word in words) / len(words)
            if held > share:
                best, share = self._sources[at].span.marker, held
                if not exact <= self._held[at]:
                    best, share = 0, min(held, self._thresholds.words_refuse / 2)
        verdict = Verdict.SUPPORTED if share >= self._thresholds.words_support else Verdict.UNSUPPORTED
        return Judged(start, end, verdict, words=share, marker=best if verdict is Verdict.SUPPORTED else 0)

    def _undecided(self, it: Judged) -> bool:
        return it.verdict is Verdict.UNSUPPORTED and it.words >= self._thresholds.words_refuse

    @cached_property
    def _parts(self) -> Parts:
        return Parts(self._sources)

    async def _embedded(self, texts: list[str], near: Sequence[Sequence[int]]) -> list[list[float]]:
        """The vectors of sentences, when those of the sources' that are near them are there; none without the embedder."""
        if self._blind or not texts:
            return []
        # The nearest of each first, so that every one of them has its part of what is embedded now.
        wanted = dict.fromkeys(at for row in zip_longest(*near) for at in row if at is not None)
        new = [at for at in wanted if at not in self._vectors][:_MOST_COMPARED]
        try:
            if new:
                vectors = await self._embedder.embed([self._parts.text(at) for at in new])
                self._vectors.update(zip(new, vectors, strict=True))
            self._tell_of_the_rest()
            return await self._embedder.embed(texts)
        except Failure as failure:
            self._blind = True
            self._fell_back(failure)
            return []

    def _tell_of_the_rest(self) -> None:
        if len(self._parts) > _MOST_COMPARED and not self._told:
            self._told = True
            most = f"at most {_MOST_COMPARED} are compared with one of the answer"
            self._narrowed(f"the sources have {len(self._parts)} sentences, of which {most}")

    def _without_vectors(self, it: Judged) -> Judged:
        if self._undecided(it) and it.words >= self._thresholds.words_alone:
            return replace(it, verdict=Verdict.SUPPORTED)
        return it

    def _by_vector(self, it: Judged, vector: list[float], near: Sequence[int]) -> Judged:
        compared = [(at, self._vectors[at]) for at in near if at in self._vectors]
        if not compared:
            return self._without_vectors(it)
        nearest, at = max((sum(map(mul, vector, other)), at) for at, other in compared)
        supported = nearest >= self._thresholds.cosine_support
        return replace(
            it,
            verdict=Verdict.SUPPORTED if supported else Verdict.UNSUPPORTED,
            judge=Judge.VECTORS,
            similarity=nearest,
            marker=self._parts.marker(at) if supported else 0,
        )

    async def _by_model(self, it: Judged, text: str) -> Judged:
        assert self._ask_model is not None
        cited = [number for marker in MARKER.findall(text) for number in numbers(marker)]
        chosen = [source for source in self._sources if source.span.marker in cited] or list(self._sources[:1])
        for source in chosen:
            if await self._ask_model(MARKER.sub("", text).strip(), source):
                return replace(it, verdict=Verdict.SUPPORTED, judge=Judge.MODEL, marker=source.span.marker)
        return replace(it, judge=Judge.MODEL)
