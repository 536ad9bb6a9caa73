"""The raw lists of a search: what keywords and vectors find, for each query.

Invariant: a list holds only chunks that were allowed before it was taken, and its
scores are the index's own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.retriever.index.index import Vector
from services.retriever.search.stopwatch import Stopwatch
from services.retriever.text.keywords import words


@dataclass(slots=True)
class Again:
    """What a second look found: how near chunks are to the widened vector, and which hold words of the first's best.

    ``kept`` are the chunks that stay first, whatever it found; those in one tuple tied.
    """

    near: dict[int, float] = field(default_factory=dict)
    sparse: dict[int, float] = field(default_factory=dict)
    kept: tuple[tuple[int, ...], ...] = ()


@dataclass(slots=True)
class Lists:
    """What the arms found for one query, over all collections: ``near`` is ``dense`` filled up for fusion.

    ``weight`` is 1 for a query, less for what was expanded from one; ``documents`` has the document of each chunk, as far
    as fusion wants to know them.
    """

    dense: dict[int, float] = field(default_factory=dict)
    near: dict[int, float] = field(default_factory=dict)
    sparse: dict[int, float] = field(default_factory=dict)
    weight: float = 1.0
    documents: dict[int, int] = field(default_factory=dict)
    again: Again | None = None

    def chunks(self) -> set[int]:
        """All that was found."""
        found = {*self.near, *self.sparse}
        return found if self.again is None else found.union(self.again.near, self.again.sparse)


class Looked(Protocol):
    """The part of an index that is looked at; its methods are those of :class:`services.retriever.index.index.Index`."""

    def keyword(
        self, collection: int, words: tuple[str, ...], limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As there."""

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As there."""

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """As there."""


@dataclass(frozen=True, slots=True)
class Sought:
    """Where to look: collections with the chunks allowed in each (None: all), and how long a list may get."""

    allowed: Mapping[int, Collection[int] | None]
    depth: int
    keywords: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for a second time: words, and a vector of shape [dimensions]."""

    words: tuple[str, ...]
    vector: Vector
    kept: tuple[tuple[int, ...], ...]


def look(
    index: Looked, queries: Sequence[str], vectors: Sequence[Vector | None] | None, sought: Sought, watch: Stopwatch
) -> list[Lists]:
    """Both arms over every collection, for each query.  Blocks."""
    found = []
    for place, query in enumerate(queries):
        lists = Lists()
        wanted = words(query) if sought.keywords else ()
        for number, only in sought.allowed.items():
            matching: Mapping[int, float] = {}
            with watch.stage("sparse"):
                if wanted:
                    matching = index.keyword(number, wanted, sought.depth, only)
                    lists.sparse.update(matching)
            with watch.stage("dense"):
                vector = vectors[place] if vectors is not None else None
                if vector is not None:
                    _near(index, number, vector, matching, lists, only, sought.depth)
        found.append(lists)
    return found


def look_again(index: Looked, lists: Lists, wanted: Wanted, sought: Sought) -> None:
    """Both arms over every collection once more, into ``lists.again``.  Blocks."""
    again = Again(kept=wanted.kept)
    for number, only in sought.allowed.items():
        if wanted.words:
            again.sparse.update(index.keyword(number, wanted.words, sought.depth, only))
        again.near.update(index.nearest(number, wanted.vector, sought.depth, only))
    known = {*lists.near, *lists.sparse, *again.sparse}.difference(again.near)
    for number in sought.allowed:
        again.near.update(index.similarities(number, wanted.vector, known))
    lists.again = again


def _near(
    index: Looked,
    number: int,
    vector: Vector,
    matching: Mapping[int, float],
    lists: Lists,
    only: Collection[int] | None,
    depth: int,
) -> None:
    near = index.nearest(number, vector, depth, only)
    lists.dense.update(near)
    # Keywords found these: how near they are counts as well, and is cheap to know.
    others = [chunk for chunk in matching if chunk not in near]
    lists.near.update({**near, **index.similarities(number, vector, others)})
