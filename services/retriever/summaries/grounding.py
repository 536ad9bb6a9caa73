"""Whether a worded statement says what its sources say, and which of them it says it of.

Invariant: what is answered follows from the text and the sources alone, whoever wrote it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.retriever.summaries.question import Told
from services.retriever.text.keywords import keyword_text, words
from services.retriever.text.tokens import Tokens

_LONGEST = 500
# Of the words of a text, so many must be its sources' own.
_LEAST_SHARE = 0.7
# A source is cited for so many words that those cited before it have not, or for one number.
_LEAST_WORDS = 2
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_NAME = re.compile(r"(?<=[\w,;:] )[^\W\d_a-zß-öø-ÿ]\w+")


@dataclass(frozen=True, slots=True)
class Grounding:
    """Compares words as the keyword index sees them."""

    tokens: Tokens

    def holds(self, text: str, sources: Sequence[str]) -> bool:
        """Whether the text has numbers, names and words of the sources alone, but for a few of the words."""
        given = " ".join(sources)
        if not text or len(text) > _LONGEST or not set(_NUMBER.findall(text)) <= set(_NUMBER.findall(given)):
            return False
        if not {name.casefold() for name in _NAME.findall(text)} <= set(re.findall(r"\w+", given.casefold())):
            return False
        said, heard = self.tokens.of([" ".join(words(text)), keyword_text(given)])
        held = set(heard)
        return bool(said) and sum(token in held for token in said) >= _LEAST_SHARE * len(said)

    def supporting(self, text: str, sources: Sequence[str]) -> tuple[int, ...]:
        """Which sources the words of the text are from, in their order: the fewest, those with most of it first."""
        said, *held = self.tokens.of([" ".join(words(text)), *map(keyword_text, sources)])
        left, taken = set(said), set[int]()
        while True:
            adds = [left.intersection(its) for its in held]
            best = max(range(len(held)), key=lambda at: (len(adds[at]), -at), default=None)
            if best is None or (taken and not _worth(adds[best])):
                return tuple(sorted(taken))
            taken.add(best)
            left -= adds[best]

    def told(self, statements: Sequence[Told]) -> list[Told]:
        """The statements, each with those of its citations that support it alone.

        What was worded from worded statements may have gone far from what it cites: then the first sentence that it
        cites stands in its place, as it is written.  Nothing is said twice.
        """
        once: dict[str, Told] = {}
        for it in statements:
            supported = self._supported(it) if it.generated else it
            once.setdefault(supported.text, supported)
        return list(once.values())

    def _supported(self, it: Told) -> Told:
        cited = [citation.text for citation in it.citations]
        if not self.holds(it.text, cited):
            return Told(cited[0], it.citations[:1], generated=False)
        return replace(it, citations=tuple(it.citations[at] for at in self.supporting(it.text, cited)))


def _worth(adds: set[str]) -> bool:
    return len(adds) >= _LEAST_WORDS or any(word[0].isdigit() for word in adds)
