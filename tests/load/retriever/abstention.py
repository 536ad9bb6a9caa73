"""Questions of three kinds with what a search says of whether they are answered.

Own questions have their answer in the corpus; near-misses are the same questions after the documents that answer them
were deleted, truly and not by a filter, and before these were added again; foreign ones are asked of another corpus.
"""

import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from services.retriever.search.answerable import Features
from tests.load.retriever.library import Library, opened
from tests.load.retriever.sets import Asked, Corpus
from tests.load.retriever.vectors import Encoder


class Kind(StrEnum):
    """Where the answer is."""

    OWN = "own"
    NEAR = "near"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Case:
    """A question of a corpus, its kind, and what was found."""

    corpus: str
    kind: Kind
    features: Features


async def cases(corpora: Sequence[Corpus], encoder: Encoder) -> list[Case]:
    """Every question of every corpus asked of its own, of its own without the answer, and of each other corpus."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), encoder) as library:
            for corpus in corpora:
                await library.fill(corpus)
            for corpus in corpora:
                # What is asked of a corpus does not see how an earlier one was taken apart: each is whole again.
                found += [it async for it in _asked(corpus, Kind.OWN, corpus.questions, corpus.name, library)]
                found += [it async for it in _near(corpus, library)]
                for other in corpora:
                    if other is not corpus:
                        asked = _asked(corpus, Kind.FOREIGN, corpus.questions, other.name, library)
                        found += [it async for it in asked]
    return found


async def _near(corpus: Corpus, library: Library) -> AsyncIterator[Case]:
    sources = {it.document: it for it in corpus.documents}
    for gold, questions in groupby(sorted(corpus.questions, key=_gold), key=_gold):
        for name in gold:
            await library.remove(corpus.name, name)
        async for case in _asked(corpus, Kind.NEAR, list(questions), corpus.name, library):
            yield case
        await library.add(corpus.name, [sources[name] for name in gold])


async def _asked(
    corpus: Corpus, kind: Kind, questions: Sequence[Asked], of: str, library: Library
) -> AsyncIterator[Case]:
    for it in questions:
        answer = await library.answerability(of, it.text)
        yield Case(corpus.name, kind, answer.features)


def _gold(asked: Asked) -> list[str]:
    return sorted(asked.gold)
