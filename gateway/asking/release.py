"""An answer's text on its way out: guarded, and where it is asked for a sentence at a time after each was checked.

Invariants: places of citations, sentences and quotations are in the text that left; the probabilities of tokens leave with
their text, never without it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise

from gateway.asking.citations import Verified, verify
from gateway.asking.guard import Guard
from gateway.asking.quotes import Quote
from gateway.asking.sentences import bounds, complete
from gateway.asking.stages import Running
from gateway.asking.support import Judged, Support, Verdict
from gateway.asking.tokens import Tokens
from gateway.generation import SourceSpan, TextDelta
from gateway.leaving import Leaving


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about the text that left."""

    verified: Verified
    sentences: tuple[Judged, ...]
    quotes: tuple[Quote, ...]


@dataclass(slots=True)
class _Cut:
    """Characters [start, end) of the guarded text that did not leave."""

    start: int
    end: int


class Outlet:
    """Passes text on.  ``guard`` None lets all through: what is shaped is only checked.

    ``by_sentence`` holds each sentence back until it is judged; ``withhold`` keeps unsupported ones; each is
    judged inside ``judging``.  ``opening`` has left already, before the first piece.
    """

    def __init__(
        self,
        guard: Guard | None,
        support: Support,
        *,
        by_sentence: bool = False,
        withhold: bool = False,
        opening: str = "",
        judging: Callable[[], AbstractAsyncContextManager[Running]] = lambda: nullcontext(Running(None)),
    ) -> None:
        self._guard = guard
        self._support = support
        self._by_sentence = by_sentence
        self._withhold = withhold
        self._opening = opening
        self._judging = judging
        # Guarded text, and what of it has left; with what waits for the end of its sentence.
        self._guarded = 0
        self._left = ""
        self._waiting = ""
        self._tokens = Tokens()
        self._judged: list[Judged] = []
        self._cuts: list[_Cut] = []
        # Hears when the first of it leaves.
        self.leaving = Leaving()

    @property
    def text(self) -> str:
        """All that has left."""
        return self._opening + self._left

    async def push(self, delta: TextDelta) -> AsyncIterator[TextDelta]:
        """What leaves with this piece: none, one, or a piece a sentence."""
        if self._guard is None:
            self._left += delta.text
            if delta.text or delta.logprobs:
                self.leaving.begins()
                yield delta
            return
        self._tokens.came(delta.text, delta.logprobs)
        text = self._guard.push(delta.text)
        async for piece in self._passed(self._guard, text, delta, final=False):
            yield piece

    async def finish(self) -> AsyncIterator[TextDelta]:
        """What leaves when nothing more comes."""
        if self._guard is None:
            return
        text = self._guard.finish()
        async for piece in self._passed(self._guard, text, TextDelta(""), final=True):
            yield piece
        if rest := self._tokens.rest():
            yield TextDelta("", rest)

    async def _passed(self, guard: Guard, text: str, delta: TextDelta, *, final: bool) -> AsyncIterator[TextDelta]:
        self._tokens.guarded(guard.stretches())
        self._waiting += text
        ready = complete(self._waiting) if self._by_sentence and not final else len(self._waiting)
        whole, self._waiting = self._waiting[:ready], self._waiting[ready:]
        for part in _sentences(whole) if self._by_sentence else [whole]:
            piece = await self._sentence(part) if self._by_sentence else self._at_once(part)
            self._tokens.passed(len(part), left=piece == part)
            tokens = self._tokens.leaving()
            if piece or tokens:
                self.leaving.begins()
                yield replace(delta, text=piece, logprobs=tokens)

    def _at_once(self, text: str) -> str:
        self._left += text
        self._guarded += len(text)
        return text

    async def _sentence(self, text: str) -> str:
        """The sentence and the white space around it if it may leave."""
        plain = text.strip()
        at = len(self._opening) + len(self._left)
        start = self._guarded
        self._guarded += len(text)
        if plain:
            async with self._judging() as stage:
                (judged,) = await self._support.judged([(at + len(text) - len(text.lstrip()), plain)])
                stage.input_size, stage.decision = 1, f"{judged.verdict.value} by {judged.judge.value}"
            if self._withhold and judged.verdict is Verdict.UNSUPPORTED:
                self._judged.append(replace(judged, start=at, end=at, withheld=True, text=plain))
                self._cuts.append(_Cut(start, self._guarded))
                return ""
            self._judged.append(judged)
        self._left += text
        return text

    async def checked(self, spans: tuple[SourceSpan, ...]) -> Checked:
        """What is found out about the whole text; the opening is nobody's claim."""
        if not self._by_sentence:
            at = len(self._opening)
            parts = [(at + start, self._left[start:end]) for start, end in bounds(self._left)]
            self._judged = await self._support.judged(parts)
        return self.unchecked(spans)

    def unchecked(self, spans: tuple[SourceSpan, ...]) -> Checked:
        """The same where nobody judges sentences: those that were judged before they left stay so."""
        return Checked(self._verified(spans), tuple(self._judged), tuple(self._quotes()))

    def _verified(self, spans: tuple[SourceSpan, ...]) -> Verified:
        verified = verify(self.text, spans)
        dropped = () if self._guard is None else self._guard.unresolved_markers
        return Verified(verified.citations, tuple(dict.fromkeys([*dropped, *verified.unresolved_markers])))

    def _quotes(self) -> list[Quote]:
        if self._guard is None:
            return []
        moved: list[Quote] = []
        for quote in self._guard.quotes:
            if any(cut.start <= quote.start < cut.end for cut in self._cuts):
                continue
            gone = sum(cut.end - cut.start for cut in self._cuts if cut.end <= quote.start)
            by = len(self._opening) - gone
            moved.append(replace(quote, start=quote.start + by, end=quote.end + by))
        return moved


def _sentences(text: str) -> list[str]:
    """The text cut into its sentences, each with the white space behind it."""
    places = [start for start, _ in bounds(text)]
    cuts = [0, *places[1:], len(text)]
    return [text[begin:end] for begin, end in pairwise(cuts)]
