"""Vectors in memory, searched exactly.

Invariant: each row's cosine is computed by itself and ties are cut by chunk, so an answer
does not depend on where a row stands: a matrix that grew step by step and a fresh one give
the same bits.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from usearch.compiled import MetricKind
from usearch.index import search

from services.retriever.index.index import Vector
from services.retriever.search.fusion import ordered

# More than asked for, so that a tie at the end is cut by our order and not by the library's.
_TIES = 32
# Rows of a block.  A change copies the blocks that it touches and shares the others.
_BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Block:
    """Some chunks, shape [rows], and their vectors, shape [rows, dimensions]."""

    chunks: NDArray[np.int64]
    rows: NDArray[np.float16]

    @classmethod
    def of(cls, entries: Iterable[tuple[int, bytes]]) -> "Block":
        """From chunks with their packed vectors."""
        pairs = list(entries)
        chunks = np.array([chunk for chunk, _ in pairs], dtype=np.int64)
        packed = np.frombuffer(b"".join(vector for _, vector in pairs), dtype="<f2")
        return cls(chunks, packed.reshape(len(pairs), -1) if pairs else packed.reshape(0, 0))

    def where(self, kept: NDArray[np.bool_]) -> "Block":
        """The rows that the mask keeps."""
        return self if kept.all() else Block(self.chunks[kept], self.rows[kept])


@dataclass(frozen=True, slots=True)
class Matrix:
    """A collection's vectors, or some of them, in blocks that never change."""

    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, entries: Iterable[tuple[int, bytes]]) -> "Matrix":
        """From chunks, each once, with their packed vectors."""
        return cls(tuple(_cut([Block.of(entries)])))

    def __len__(self) -> int:
        """Its rows."""
        return sum(len(block.chunks) for block in self.blocks)

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return sum(int(block.chunks.nbytes + block.rows.nbytes) for block in self.blocks)

    def changed(self, add: Sequence[tuple[int, bytes]], remove: Collection[int]) -> "Matrix":
        """With these rows and without those; a chunk that is added again has its new vector."""
        gone = np.fromiter({*remove, *(chunk for chunk, _ in add)}, dtype=np.int64)
        kept = [block.where(~np.isin(block.chunks, gone)) for block in self.blocks]
        full = [block for block in kept if len(block.chunks) > _BLOCK_ROWS // 2]
        rest = [block for block in kept if len(block.chunks) <= _BLOCK_ROWS // 2]
        return Matrix((*full, *_cut([*rest, Block.of(add)])))

    def only(self, allowed: Collection[int]) -> "Matrix":
        """The rows of these chunks, those that it holds."""
        wanted = np.fromiter(allowed, dtype=np.int64, count=len(allowed))
        kept = (block.where(np.isin(block.chunks, wanted)) for block in self.blocks)
        return Matrix(tuple(_cut(list(kept))))

    def nearest(self, vector: Vector, limit: int) -> Mapping[int, float]:
        """Cosine of the nearest rows, best first."""
        count = limit + _TIES
        while True:
            found = ordered(self._best(vector.astype(np.float16), count))
            # A tie that reaches from what is taken to the last that was found may go on behind it.
            whole = len(found) < count or found[limit - 1].score > found[count - 1].score
            if limit < 1 or whole:
                return {hit.chunk: hit.score for hit in found[:limit]}
            count *= 4

    def _best(self, query: NDArray[np.float16], count: int) -> dict[int, float]:
        """At most ``count`` rows with their cosines; of a tie at the end, some."""
        found: list[tuple[float, int]] = []
        for block in self.blocks:
            matches = search(block.rows, query, min(count, len(block.chunks)), MetricKind.IP, exact=True, threads=1)
            chunks = block.chunks[matches.keys.astype(np.int64)]
            found += zip(matches.distances.tolist(), chunks.tolist(), strict=True)
        return {chunk: 1.0 - distance for distance, chunk in sorted(found)[:count]}


def _cut(parts: Sequence[Block]) -> Iterable[Block]:
    """The rows of the parts in blocks of at most so many, none of them empty."""
    filled = [part for part in parts if len(part.chunks)]
    if not filled:
        return
    if len(filled) == 1 and len(filled[0].chunks) <= _BLOCK_ROWS:
        yield filled[0]
        return
    chunks = np.concatenate([part.chunks for part in filled])
    rows = np.concatenate([part.rows for part in filled])
    for first in range(0, len(chunks), _BLOCK_ROWS):
        yield Block(chunks[first : first + _BLOCK_ROWS].copy(), rows[first : first + _BLOCK_ROWS].copy())


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

    def change(self, collection: int, add: Sequence[tuple[int, bytes]], remove: Collection[int]) -> None:
        """The collection has changed by these rows: a matrix in memory follows.  One change at a time."""
        with self._lock:
            self._changes[collection] = self._changes.get(collection, 0) + 1
            matrix = self._kept.pop(collection, None)
        if matrix is None:
            return
        changed = matrix.changed(add, remove)
        with self._lock:
            self._kept[collection] = changed
            self._evict(but=collection)

    def forget(self, collection: int) -> None:
        """The collection is gone."""
        with self._lock:
            self._changes[collection] = self._changes.get(collection, 0) + 1
            self._kept.pop(collection, None)

    def _evict(self, *, but: int) -> None:
        used = sum(matrix.size_bytes for matrix in self._kept.values())
        while used > self._most_bytes and len(self._kept) > 1:
            collection = next(number for number in self._kept if number != but)
            used -= self._kept.pop(collection).size_bytes
