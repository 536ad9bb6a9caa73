"""The raw lists of a search: what keywords and vectors find, for each query.

Invariant: a list holds only chunks that were allowed before it was taken, and its
scores are the index's own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from services.retriever.index.index import Index, Vector
from services.retriever.search.stopwatch import Stopwatch
from services.retriever.text.keywords import words


@dataclass(slots=True)
class Lists:
    """What the arms found for one query, over all collections: ``near`` is ``dense`` filled up for fusion.

    ``weight`` is 1 for a query, less for what was expanded from one.
    """

    dense: dict[int, float] = field(default_factory=dict)
    near: dict[int, float] = field(default_factory=dict)
    sparse: dict[int, float] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Sought:
    """Where to look: collections with the chunks allowed in each (None: all), and how long a list may get."""

    allowed: Mapping[int, Collection[int] | None]
    depth: int
    keywords: bool


def look(
    index: Index, queries: Sequence[str], vectors: Sequence[Vector | None] | None, sought: Sought, watch: Stopwatch
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


def _near(
    index: Index,
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
