"""Indexes of each kind for the suite that all of them pass, and chunks to fill them with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.retriever.index.index import Entry, Index, Vector

WORDS = ("herring", "mustard", "gates", "lamp", "siren", "bread", "quays", "boat")
DIMENSIONS = 16

Answers = list[list[tuple[int, float]]]


@dataclass
class Shelf:
    """A place for indexes: ``open`` gives the index of a catalog, what is there kept; ``close`` ends all of them."""

    open: Callable[[str], Index]
    close: Callable[[], None]


def vector(seed: int) -> Vector:
    """A vector of length 1 that follows from the seed."""
    drawn = np.random.default_rng(seed).normal(size=DIMENSIONS)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def packed(seed: int) -> bytes:
    """The vector as an index takes it."""
    return vector(seed).astype("<f2").tobytes()


def entry(chunk: int, **other: Any) -> Entry:
    """A chunk whose text and vector follow from its number; some texts are twins."""
    picked = np.random.default_rng(chunk // 2).choice(WORDS, size=4)
    return Entry(**{"chunk": chunk, "text": " ".join(picked), "vector": packed(chunk // 2), **other})


def answers(index: Index, collection: int = 1, allowed: frozenset[int] | None = None, limit: int = 5) -> Answers:
    """What it says to a few questions, in order, to the bit."""
    found = [list(index.keyword(collection, (word, "gate"), limit, allowed).items()) for word in WORDS]
    return found + [list(index.nearest(collection, vector(seed), limit, allowed).items()) for seed in range(5)]


def fill(index: Index, chunks: range, collection: int = 1) -> None:
    """Add these chunks."""
    index.replace(collection, [entry(chunk) for chunk in chunks], [])
