"""What a search is asked, and what it answers.

Invariant: a hit's text is the characters [start, end) of the version that it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.retriever.filters import Filter
from services.retriever.readers import Viewer


class Mode(StrEnum):
    """Which arms look."""

    HYBRID = "hybrid"
    DENSE = "dense"
    SPARSE = "sparse"


class Fusion(StrEnum):
    """How two lists become one."""

    SCORE = "score"
    RANK = "rank"


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for, where, how and for whom.  Empty ``documents`` means all."""

    collections: tuple[str, ...]
    queries: tuple[str, ...]
    top_k: int
    mode: Mode
    fusion: Fusion
    dense_weight: float
    metadata_equals: Mapping[str, str]
    documents: tuple[str, ...]
    viewer: Viewer
    filter: Filter | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage.  A score of an arm is None when that arm did not find it."""

    collection: str
    document: str
    version: str
    chunk: int
    start: int
    end: int
    text: str
    title: str
    heading_path: tuple[str, ...]
    score: float
    dense_score: float | None
    sparse_score: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, best first, and the wall time of each stage in seconds."""

    hits: tuple[Hit, ...]
    seconds: Mapping[str, float]
