"""Answers about a whole collection: its summary, or what its index counts.  No model of the request's has a part in them.

Invariants: every statement cites what it is from, and nothing else that its words write like a marker; a number is the
index's own.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.asking.citations import unmarked
from gateway.asking.question import Path, Question
from gateway.asking.recognising import Recognised
from gateway.asking.retrieval import Counted, Retriever, Source, Statement, marked
from gateway.asking.stages import Stages
from gateway.generation import CollectionVersion
from services.chassis.errors import Failure, Reason

# Titles that a sentence can hold; the number of all documents stands before them.
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer that no model made: its pieces, the sources that their markers name, and the collections that it is of."""

    path: Path
    pieces: tuple[str, ...]
    sources: tuple[Source, ...]
    collections: tuple[CollectionVersion, ...] = ()


class Corpus:
    """Asks the retriever about whole collections."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    async def spoken(self, question: Question, about: Recognised, stages: Stages) -> Spoken:
        """The answer.  Raises as the retriever, and BudgetSpentError."""
        collections = tuple(dict.fromkeys(question.scope.collections))
        if about.path is Path.SUMMARY:
            async with stages.stage("summarize") as stage:
                each = await asyncio.gather(
                    *(
                        self._retriever.summarize(
                            question.scope, collection, about.of, within_seconds=stage.budget_seconds
                        )
                        for collection in collections
                    )
                )
                statements = [statement for several in each for statement in several.statements]
                stage.input_size = len(statements)
                stage.decision = f"the summary of {', '.join(collections)}"
                stage.words = f", of {about.of}" if about.of else ""
            return replace(_summary(statements), collections=_versions(collections, [it.version for it in each]))
        async with stages.stage("count") as stage:
            counts = await asyncio.gather(
                *(
                    self._retriever.count(
                        question.scope, collection, about.of, _MOST_NAMED, within_seconds=stage.budget_seconds
                    )
                    for collection in collections
                )
            )
            stage.input_size = sum(it.searched for it in counts)
            stage.decision = f"the index of {', '.join(collections)}"
            stage.words = f", for {about.of}" if about.of else ""
        return replace(_counts(counts), collections=_versions(collections, [it.version for it in counts]))


def _versions(collections: Sequence[str], versions: Sequence[str]) -> tuple[CollectionVersion, ...]:
    return tuple(map(CollectionVersion, collections, versions))


def wanted(question: Question, recognised: Recognised) -> Recognised:
    """Where the question is answered: where it says, else where it was recognised to be.

    Raises FIELD_INVALID for a summary or an index in a shape, which they cannot take.
    """
    named = question.path
    if named in (Path.SUMMARY, Path.INDEX) and question.wish.shape is not None:
        problem = "a summary and an index answer in words of their own; ask without a path, or without a shape"
        raise Failure(Reason.FIELD_INVALID, field="path", problem=problem)
    if named is Path.PASSAGES or (named is Path.UNSPECIFIED and question.wish.shape is not None):
        return Recognised(Path.PASSAGES)
    if named is Path.UNSPECIFIED or named is recognised.path:
        return recognised
    return Recognised(named, question.text)


def _summary(statements: list[Statement]) -> Spoken:
    if not statements:
        return Spoken(Path.SUMMARY, ("There is nothing to summarise.",), ())
    sources: dict[tuple[str, str, int, int], Source] = {}
    for statement in statements:
        for source in statement.sources:
            sources.setdefault(_place(source), source)
    numbered = dict(zip(sources, marked(tuple(sources.values())), strict=True))
    pieces: list[str] = []
    for statement in statements:
        markers = dict.fromkeys(numbered[_place(source)].span.marker for source in statement.sources)
        end = "" if not pieces else "\n"
        pieces.append(f"{end}{unmarked(statement.text.strip())} {''.join(f'[{marker}]' for marker in markers)}")
    return Spoken(Path.SUMMARY, tuple(pieces), tuple(numbered.values()))


def _counts(counts: list[Counted]) -> Spoken:
    placed = [source for it in counts for source in it.sources if source is not None]
    numbers = {id(source): number for number, source in enumerate(placed, start=1)}
    pieces: list[str] = []
    for it in counts:
        named = [
            unmarked(title) if source is None else f"{unmarked(title)} [{numbers[id(source)]}]"
            for title, source in zip(it.titles, it.sources, strict=True)
        ]
        pieces.append(("\n" if pieces else "") + _sentence(it, named))
    return Spoken(Path.INDEX, tuple(pieces), marked(placed))


def _sentence(it: Counted, named: list[str]) -> str:
    held = f" hold the words {', '.join(it.words)}" if it.words else ""
    most = (
        f"{it.documents} of the {it.searched} documents of {it.collection}{held}"
        if held
        else (f"There are {it.documents} documents in {it.collection}")
    )
    more = it.documents - len(named)
    rest = f", and {more} more" if more > 0 and named else ""
    return f"{most}: {'; '.join(named)}{rest}." if named else f"{most}."


def _place(source: Source) -> tuple[str, str, int, int]:
    return (source.span.document, source.span.version, source.span.start, source.span.end)
