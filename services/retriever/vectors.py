"""Vectors in memory, searched exactly.

Invariant: each row's cosine is computed by itself, so it does not depend on where the
row stands: an index that grew step by step and a fresh one give the same bits.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from usearch.compiled import MetricKind
from usearch.index import search

from services.retriever.fusion import ordered
from services.retriever.index import Vector

# More than asked for, so that a tie at the end is cut by our order and not by the library's.
_TIES = 32


@dataclass(frozen=True, slots=True)
class Matrix:
    """Chunks in ascending order, shape [rows], and their vectors, shape [rows, dimensions]."""

    chunks: NDArray[np.int64]
    rows: NDArray[np.float16]

    @classmethod
    def of(cls, entries: Iterable[tuple[int, bytes]]) -> "Matrix":
        """From chunks in ascending order with their packed vectors."""
        pairs = list(entries)
        chunks = np.array([chunk for chunk, _ in pairs], dtype=np.int64)
        packed = np.frombuffer(b"".join(vector for _, vector in pairs), dtype="<f2")
        return cls(chunks, packed.reshape(len(pairs), -1) if pairs else packed.reshape(0, 0))

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return int(self.chunks.nbytes + self.rows.nbytes)

    def only(self, allowed: Collection[int]) -> "Matrix":
        """The rows of these chunks, those that it holds."""
        wanted = np.fromiter(allowed, dtype=np.int64, count=len(allowed))
        kept = np.isin(self.chunks, wanted)
        return Matrix(self.chunks[kept], self.rows[kept])

    def nearest(self, vector: Vector, limit: int) -> Mapping[int, float]:
        """Cosine of the nearest rows, best first."""
        count = min(limit + _TIES, len(self.chunks))
        if not count:
            return {}
        query = vector.astype(np.float16)
        matches = search(self.rows, query, count, MetricKind.IP, exact=True, threads=1)
        found = {
            int(self.chunks[row]): 1.0 - float(distance)
            for row, distance in zip(matches.keys, matches.distances, strict=True)
        }
        return {hit.chunk: hit.score for hit in ordered(found)[:limit]}


class Matrices:
    """The matrices that were asked for last, within a bound on their memory.  Thread-safe."""

    def __init__(self, most_bytes: int, load: Callable[[int], Matrix]) -> None:
        self._most_bytes = most_bytes
        self._load = load
        self._kept: OrderedDict[int, Matrix] = OrderedDict()
        self._changes: dict[int, int] = {}
        self._lock = threading.Lock()

    def of(self, collection: int) -> Matrix:
        """The collection's matrix, read if it is not in memory."""
        with self._lock:
            if collection in self._kept:
                self._kept.move_to_end(collection)
                return self._kept[collection]
            seen = self._changes.get(collection, 0)
        matrix = self._load(collection)
        with self._lock:
            # What changed while we read is not kept: the next search reads it again.
            if self._changes.get(collection, 0) == seen:
                self._kept[collection] = matrix
                self._evict(but=collection)
        return matrix

    def forget(self, collection: int) -> None:
        """The collection has changed."""
        with self._lock:
            self._changes[collection] = self._changes.get(collection, 0) + 1
            self._kept.pop(collection, None)

    def _evict(self, *, but: int) -> None:
        used = sum(matrix.size_bytes for matrix in self._kept.values())
        while used > self._most_bytes and len(self._kept) > 1:
            collection = next(number for number in self._kept if number != but)
            used -= self._kept.pop(collection).size_bytes
