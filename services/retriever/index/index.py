"""What an index promises.  It can be thrown away and built again from the catalog at any time.

Invariant: statistics of keywords (document count, mean length, frequencies) are those of
one collection: in a shared table another collection, or tenant, would move the scores.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Frequencies:
    """The chunks of a collection, and in how many of them each word is, counted no further than :func:`counted_to`."""

    chunks: int
    by_word: Mapping[str, int]


def counted_to(chunks: int) -> int:
    """Up to how many holders of a word are counted: from half of the chunks on it tells nothing apart."""
    return chunks // 2 + 1


class Index(Protocol):
    """Keyword and vector search over chunks.  All methods block; collections are numbers of the catalog.

    ``allowed`` restricts a search to these chunks before, not after, the best are taken.  Ties go by chunk.  A method
    may raise PEER_UNAVAILABLE where the index is a server; a change that raised it may be there in part, and is whole
    when its chunks were removed and the change is repeated.
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

    def holders(self, collection: int, word: str) -> frozenset[int]:
        """Every chunk that holds the word, one of those that ``keywords.words`` gives; exact, however many they are."""

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """Cosine of the nearest chunks, best first.  ``vector`` has shape [dimensions]."""

    def frequencies(self, collection: int, words: Sequence[str]) -> Frequencies:
        """How rare the words are in the collection."""

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """Cosine of just these chunks, those it holds."""

    def digest(self, collection: int) -> str:
        """What it really holds, as one SHA-256: chunks, the words that are looked for, and vectors, read back."""


def collective(digests: Iterable[bytes]) -> str:
    """One digest of a set of entries', whatever their order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
