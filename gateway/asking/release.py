"""An answer's text on its way out: guarded, and where it is asked for a sentence at a time after each was checked.

Invariant: places of citations, sentences and quotations are in the text that left.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from gateway.asking.citations import Verified, verify
from gateway.asking.guard import Guard
from gateway.asking.quotes import Quote
from gateway.asking.sentences import bounds, complete
from gateway.asking.support import Judged, Support, Verdict
from gateway.generation import SourceSpan, TextDelta, TokenLogprob


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

    ``by_sentence`` holds each sentence back until it is judged; ``withhold`` keeps unsupported ones.  ``opening`` has left
    already, before the first piece.
    """

    def __init__(
        self,
        guard: Guard | None,
        support: Support,
        *,
        by_sentence: bool = False,
        withhold: bool = False,
        opening: str = "",
    ) -> None:
        self._guard = guard
        self._support = support
        self._by_sentence = by_sentence
        self._withhold = withhold
        self._opening = opening
        # Guarded text, and what of it has left; with what waits for the end of its sentence.
        self._guarded = 0
        self._left = ""
        self._waiting = ""
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self._judged: list[Judged] = []
        self._cuts: list[_Cut] = []

    @property
    def text(self) -> str:
        """All that has left."""
        return self._opening + self._left

    async def push(self, delta: TextDelta) -> AsyncIterator[TextDelta]:
        """What leaves with this piece: none, one, or a piece a sentence."""
        text = self._guard.push(delta.text) if self._guard is not None else delta.text
        self._logprobs += delta.logprobs
        async for piece in self._passed(text, delta, final=False):
            yield piece

    async def finish(self) -> AsyncIterator[TextDelta]:
        """What leaves when nothing more comes."""
        text = self._guard.finish() if self._guard is not None else ""
        async for piece in self._passed(text, TextDelta(""), final=True):
            yield piece

    async def _passed(self, text: str, delta: TextDelta, *, final: bool) -> AsyncIterator[TextDelta]:
        if not self._by_sentence:
            self._left += text
            self._guarded += len(text)
            if text or self._logprobs:
                yield self._piece(text, delta)
            return
        self._waiting += text
        ready = len(self._waiting) if final else complete(self._waiting)
        whole, self._waiting = self._waiting[:ready], self._waiting[ready:]
        ends = [end for _, end in bounds(whole)]
        # The white space behind a sentence goes with it.
        cuts = [*(start for start, _ in bounds(whole)[1:]), len(whole)] if ends else [len(whole)]
        begin = 0
        for cut in cuts:
            piece = await self._sentence(whole[begin:cut])
            begin = cut
            if piece:
                yield self._piece(piece, delta)
        if final and self._logprobs:
            yield self._piece("", delta)

    def _piece(self, text: str, delta: TextDelta) -> TextDelta:
        logprobs, self._logprobs = self._logprobs, ()
        return replace(delta, text=text, logprobs=logprobs)

    async def _sentence(self, text: str) -> str:
        """The sentence and the white space around it if it may leave."""
        plain = text.strip()
        at = len(self._opening) + len(self._left)
        start = self._guarded
        self._guarded += len(text)
        if plain:
            (judged,) = await self._support.judged([(at + len(text) - len(text.lstrip()), plain)])
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
