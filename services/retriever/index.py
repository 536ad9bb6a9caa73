"""What an index promises.  It can be thrown away and built again from the catalog at any time.

Invariant: statistics of keywords (document count, mean length, frequencies) are those of
one collection: in a shared table another collection, or tenant, would move the scores.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk as it is indexed: what keywords are looked for in, and its vector as little-endian binary16."""

    chunk: int
    text: str
    vector: bytes


class Index(Protocol):
    """Keyword and vector search over chunks.  All methods block; collections are numbers of the catalog.

    ``allowed`` restricts a search to these chunks before, not after, the best are taken.
    """

    def replace(self, collection: int, add: Sequence[Entry], remove: Sequence[int]) -> None:
        """Add and remove in one step.  Repeating it changes nothing."""

    def drop(self, collection: int) -> None:
        """Forget the collection, if there is one."""

    def members(self, collection: int) -> frozenset[int]:
        """The chunks that it holds."""

    def collections(self) -> frozenset[int]:
        """The collections of which it holds something."""

    def keyword(
        self, collection: int, words: tuple[str, ...], limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """BM25 of the best chunks that hold any of the words, positive, best first."""

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """Cosine of the nearest chunks, best first.  ``vector`` has shape [dimensions]."""

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """Cosine of just these chunks, those it holds."""
