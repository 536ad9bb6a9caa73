"""Approximate neighbours for collections too large to be searched exactly: one HNSW graph each.

A graph proposes candidates and decides nothing: whoever asks scores them exactly.  It is a
cache twice over.  Its file carries the generation that it was built for and is deleted when
the collection has another; while it is built, in a thread of its own, the collection is
searched exactly.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from usearch.compiled import MetricKind, ScalarKind
from usearch.index import Index as Hnsw

from services.retriever.index.index import Vector
from services.retriever.index.vectors import Block

# Of usearch's M, efConstruction and ef: on 200,000 chunks 128 candidates rescored hold 0.99 of the exact ten and more.
_CONNECTIVITY = 16
_EXPANSION_ADD = 128
_EXPANSION_SEARCH = 512


@dataclass(slots=True)
class _Graph:
    hnsw: Hnsw
    generation: int

    def follow(self, change: "Change") -> bool:
        """Go from one generation to the next; False where it is not the next."""
        if change.generation <= self.generation:
            return True
        if change.generation != self.generation + 1:
            return False
        gone = [chunk for chunk in {*change.remove, *change.add} if chunk in self.hnsw]
        if gone:
            self.hnsw.remove(np.array(gone, dtype=np.uint64))
        if change.add:
            _add(self.hnsw, Block.of(change.add.items()))
        self.generation = change.generation
        return True


@dataclass(frozen=True, slots=True)
class Change:
    """What took a collection to a generation: vectors by chunk that came or were renewed, and chunks that went."""

    generation: int
    add: Mapping[int, bytes]
    remove: Collection[int]


@dataclass(slots=True)
class Graphs:
    """The graphs of one index.  ``read`` gives a collection's rows and the generation that they are of.

    Thread-safe.  Generations of a collection only rise, by one each.
    """

    folder: Path
    read: Callable[[int], AbstractContextManager[tuple[int, Iterable[Block]]]]
    generation: Callable[[int], int]
    _graphs: dict[int, _Graph] = field(default_factory=dict)
    _building: dict[int, threading.Thread] = field(default_factory=dict)
    # Changes that came while a graph was built.
    _missed: dict[int, list[Change]] = field(default_factory=dict)
    _saved: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def candidates(self, collection: int, generation: int, vector: Vector, count: int) -> list[int] | None:
        """About the ``count`` nearest chunks; None while there is no graph of this generation, which begins one."""
        with self._lock:
            graph = self._graphs.get(collection)
            if graph is None:
                self._begin(collection, generation)
                return None
            if graph.generation != generation:
                return None
            return [int(key) for key in graph.hnsw.search(vector.astype(np.float16), count, threads=1).keys]

    def change(self, collection: int, change: Change) -> None:
        """The collection has changed: its graph follows, or is dropped where it missed a change before."""
        with self._lock:
            if collection in self._building:
                self._missed.setdefault(collection, []).append(change)
            graph = self._graphs.get(collection)
            if graph is not None and not graph.follow(change):
                del self._graphs[collection]

    def forget(self, collection: int) -> None:
        """The collection is gone."""
        with self._lock:
            self._graphs.pop(collection, None)
            for path in self._files(collection):
                path.unlink(missing_ok=True)

    def wait(self, collection: int) -> None:
        """Until nothing is built for the collection."""
        with self._lock:
            thread = self._building.get(collection)
        if thread is not None:
            thread.join()

    def close(self) -> None:
        """Stop what is built and write down what is ready.  Blocks."""
        self._closed.set()
        with self._lock:
            threads = list(self._building.values())
        for thread in threads:
            thread.join()
        with self._lock:
            for collection, graph in self._graphs.items():
                if self._saved.get(collection) != graph.generation:
                    self._save(collection, graph)

    def _begin(self, collection: int, generation: int) -> None:
        """Load the graph of this generation, or build one; at most one thread a collection."""
        if collection in self._building or self._closed.is_set():
            return
        work = threading.Thread(
            target=self._make, args=(collection, generation), name=f"graph-{collection}", daemon=True
        )
        self._building[collection] = work
        work.start()

    def _make(self, collection: int, generation: int) -> None:
        made: _Graph | None = None
        try:
            made = self._loaded(collection, generation) or self._built(collection)
        finally:
            with self._lock:
                missed = self._missed.pop(collection, [])
                whole = made is not None and all(made.follow(change) for change in missed)
                # One that is behind nevertheless serves nobody: the next search begins another.
                if made is not None and whole and made.generation == self.generation(collection):
                    self._graphs[collection] = made
                del self._building[collection]

    def _loaded(self, collection: int, generation: int) -> _Graph | None:
        """The graph of a file, if it is of this generation; files of others are deleted."""
        wanted = self._path(collection, generation)
        for path in self._files(collection):
            if path != wanted:
                path.unlink(missing_ok=True)
        if not wanted.exists():
            return None
        # usearch raises RuntimeError, ValueError and its own for a file that is not whole.
        with suppress(Exception):
            hnsw = Hnsw.restore(wanted)
            if hnsw is not None:
                self._saved[collection] = generation
                return _Graph(hnsw, generation)
        wanted.unlink(missing_ok=True)
        return None

    def _built(self, collection: int) -> _Graph | None:
        hnsw: Hnsw | None = None
        with self.read(collection) as (generation, blocks):
            for block in blocks:
                if self._closed.is_set():
                    return None
                hnsw = hnsw if hnsw is not None else _empty(block.rows.shape[1])
                _add(hnsw, block)
        if hnsw is None:
            return None
        graph = _Graph(hnsw, generation)
        with self._lock:
            self._save(collection, graph)
        return graph

    def _save(self, collection: int, graph: _Graph) -> None:
        path = self._path(collection, graph.generation)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        graph.hnsw.save(fresh)
        for other in self._files(collection):
            other.unlink(missing_ok=True)
        fresh.replace(path)
        self._saved[collection] = graph.generation

    def _path(self, collection: int, generation: int) -> Path:
        return self.folder / f"{collection}-{generation}.hnsw"

    def _files(self, collection: int) -> list[Path]:
        return list(self.folder.glob(f"{collection}-*.hnsw"))


def _empty(dimensions: int) -> Hnsw:
    return Hnsw(
        ndim=dimensions,
        metric=MetricKind.IP,
        dtype=ScalarKind.F16,
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )


def _add(hnsw: Hnsw, block: Block) -> None:
    hnsw.add(block.chunks.astype(np.uint64), np.ascontiguousarray(block.rows), threads=1)
