"""Two statements in one, worded by the generator, as far as it says what they say.

A generator may be small: what it writes is taken only if its numbers, its names and most of
its words are those of the statements; else the first of them stands as it was.  Invariant:
a worded statement carries what each of its sources cites; `grounding` leaves of these what an answer shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.retriever.generation import Generator, Speaker, Turn
from services.retriever.summaries.grounding import Grounding
from services.retriever.summaries.statements import Statement
from services.retriever.text.keywords import words

_MOST_TOKENS = 80
_TASK = (
    "Write one short sentence that says what both statements say. Use their own words, names and numbers, and add "
    "nothing. Answer with the sentence alone."
)


@dataclass(frozen=True, slots=True)
class Wording:
    """Asks the generator."""

    generator: Generator
    grounding: Grounding

    async def worded(self, statements: Sequence[Statement], most: int, focus: str = "") -> tuple[Statement, ...]:
        """At most ``most`` statements that say what these do; the first ones, each with what is most like it.

        Raises as the generator's ``complete``.
        """
        heads, rest = list(statements[:most]), list(statements[most:])
        return tuple([await self._one(self._joined(head, rest), focus) for head in heads])

    def _joined(self, head: Statement, rest: list[Statement]) -> tuple[Statement, ...]:
        """The statement and the one of the others, which is taken from them, that shares most words with it."""
        if not rest:
            return (head,)
        said = set(words(head.text))
        at = max(range(len(rest)), key=lambda place: (_alike(said, set(words(rest[place].text))), -place))
        return head, rest.pop(at)

    async def _one(self, sources: tuple[Statement, ...], focus: str) -> Statement:
        if len(sources) == 1:
            return sources[0]
        written = await self.generator.complete(_prompt(sources, focus), _MOST_TOKENS)
        text = " ".join(written.text.split()).strip('"“” ')
        if not written.complete or not self.grounding.holds(text, [source.text for source in sources]):
            return sources[0]
        quotes = dict.fromkeys(quote for source in sources for quote in source.quotes)
        return Statement(text, tuple(quotes), generated=True)


def _alike(first: set[str], second: set[str]) -> float:
    return len(first & second) / (len(first | second) or 1)


def _prompt(sources: Sequence[Statement], focus: str) -> list[Turn]:
    asked = [f"The sentence is to help answer: {focus}"] if focus else []
    given = [f"Statement {number}: {source.text}" for number, source in enumerate(sources, start=1)]
    return [Turn(Speaker.SYSTEM, _TASK), Turn(Speaker.USER, "\n".join([*given, *asked]))]
