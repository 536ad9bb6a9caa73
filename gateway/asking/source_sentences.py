"""The sentences of an answer's sources, and which of them are near one of the answer's by their words.

Invariant: what is near follows from the sources and the sentence alone, and of what shares as many words with it no source
has a second sentence among those before each has its first.
"""

from collections.abc import Sequence
from functools import cached_property
from heapq import nlargest

from gateway.asking.retrieval import Source
from gateway.asking.sentences import bounds, telling


class Parts:
    """The sentences of sources, by their places: those of the first source first, in their order."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._parts: list[tuple[Source, str]] = []
        # Where each stands in its own source.
        self._turns: list[int] = []
        for source in sources:
            cuts = bounds(source.text)
            self._parts += [(source, source.text[start:end]) for start, end in cuts]
            self._turns += range(len(cuts))

    def __len__(self) -> int:
        return len(self._parts)

    def text(self, place: int) -> str:
        """The sentence there."""
        return self._parts[place][1]

    def marker(self, place: int) -> int:
        """The marker of the source that it is of."""
        return self._parts[place][0].span.marker

    def near(self, sentence: str, most: int) -> Sequence[int]:
        """The places of at most ``most`` of them: all in their order, or the nearest to a sentence, best first.

        Near is what shares telling words with it; of equally many the sources have their sentences in turn.
        """
        if len(self) <= most:
            return range(len(self))
        words = set(telling(sentence))
        shared = [len(words & held) for held in self._words]
        return nlargest(most, range(len(self)), key=lambda place: (shared[place], -self._turns[place], -place))

    @cached_property
    def _words(self) -> list[frozenset[str]]:
        return [frozenset(telling(text)) for _, text in self._parts]
