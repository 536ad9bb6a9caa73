"""Whether the sources support what an answer says, sentence by sentence.

Words decide where they are clear: nearly all of a sentence's telling words stand in one source, or hardly any; a number or
a name that stands in none is never supported.  Between, the sentence's vector is compared with those of the sources'
sentences.  What both leave unsupported the base may be asked about.  The thresholds are measured
(``python -m tests.load.ask_support``); neither words nor vectors tell a sentence of which a name was changed for another
one of the same source.
Invariant: a sentence is supported by one source; several that each hold a half of it support nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from operator import mul
from typing import Protocol

from gateway.asking.citations import MARKER, numbers
from gateway.asking.retrieval import Source
from gateway.asking.sentences import bounds, literal, telling
from services.chassis.errors import Failure
from services.chassis.sources_prompt import NOT_FOUND

_MOST_SOURCE_SENTENCES = 200


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

    ``fell_back`` is told when there are no vectors; ``ask_model`` asks the base whether a source says a sentence.
    ``thresholds`` are those that are measured, but for who measures them.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        embedder: Embedder,
        fell_back: Callable[[Failure], None],
        ask_model: Callable[[str, Source], Awaitable[bool]] | None = None,
        thresholds: Thresholds = DEFAULT,
    ) -> None:
        self._sources = sources
        self._held = [frozenset(telling(f"{source.title} {source.text}")) for source in sources]
        self._embedder = embedder
        self._fell_back = fell_back
        self._ask_model = ask_model
        self._thresholds = thresholds
        self._parts: list[tuple[Source, str]] = [
            (source, source.text[start:end]) for source in sources for start, end in bounds(source.text)
        ][:_MOST_SOURCE_SENTENCES]
        self._vectors: list[list[float]] | None = None
        self._blind = False

    async def judged(self, sentences: Sequence[tuple[int, str]]) -> list[Judged]:
        """Verdicts on sentences, each with where it begins in the answer."""
        found = [self._by_words(start, text) for start, text in sentences]
        open_ = [at for at, it in enumerate(found) if self._undecided(it)]
        if open_:
            vectors = await self._embedded([sentences[at][1] for at in open_])
            for at, vector in zip(open_, vectors, strict=True):
                found[at] = self._by_vector(found[at], vector)
        if self._ask_model is not None:
            for at, it in enumerate(found):
                if it.verdict is Verdict.UNSUPPORTED:
                    found[at] = await self._by_model(it, sentences[at][1])
        return found

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

    async def _embedded(self, texts: list[str]) -> list[list[float] | None]:
        plain = [MARKER.sub("", text).strip() for text in texts]
        if not self._blind:
            try:
                if self._vectors is None:
                    self._vectors = await self._embedder.embed([part for _, part in self._parts])
                return [*await self._embedder.embed(plain)]
            except Failure as failure:
                self._blind = True
                self._fell_back(failure)
        return [None] * len(texts)

    def _by_vector(self, it: Judged, vector: list[float] | None) -> Judged:
        if vector is None or self._vectors is None:
            verdict = Verdict.SUPPORTED if it.words >= self._thresholds.words_alone else Verdict.UNSUPPORTED
            return replace(it, verdict=verdict)
        nearest, at = max((sum(map(mul, vector, other)), at) for at, other in enumerate(self._vectors))
        supported = nearest >= self._thresholds.cosine_support
        return replace(
            it,
            verdict=Verdict.SUPPORTED if supported else Verdict.UNSUPPORTED,
            judge=Judge.VECTORS,
            similarity=nearest,
            marker=self._parts[at][0].span.marker if supported else 0,
        )

    async def _by_model(self, it: Judged, text: str) -> Judged:
        assert self._ask_model is not None
        cited = [number for marker in MARKER.findall(text) for number in numbers(marker)]
        chosen = [source for source in self._sources if source.span.marker in cited] or list(self._sources[:1])
        for source in chosen:
            if await self._ask_model(MARKER.sub("", text).strip(), source):
                return replace(it, verdict=Verdict.SUPPORTED, judge=Judge.MODEL, marker=source.span.marker)
        return replace(it, judge=Judge.MODEL)
