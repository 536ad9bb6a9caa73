"""What a search is asked, and what it answers.

Invariant: a hit's text is the characters [start, end) of the version that it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.retriever.documents.attributes import Value
from services.retriever.documents.readers import Viewer
from services.retriever.search.answerable import Answerability
from services.retriever.search.filters import Filter


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
class Shape:
    """What becomes of the fused order; by default nothing.

    ``rerank_depth`` passages are reranked, by ``rerank_model`` (empty: the embedder's default; ``rerank_model_needed``
    where the question itself names it, and fails without it); ``diversity`` is the lambda of maximal marginal
    relevance; ``similarity`` is the Jaccard index from which passages count as one;
    ``section_characters`` is the most of a widened hit.
    """

    rerank_depth: int = 0
    rerank_model: str = ""
    rerank_model_needed: bool = False
    diversity: float | None = None
    collapse: bool = False
    similarity: float = 1.0
    section_characters: int = 0

    @property
    def looks_further(self) -> bool:
        """Whether more than the asked number of passages has to be ranked to give that many hits."""
        return self.collapse or self.diversity is not None or self.section_characters > 0


@dataclass(frozen=True, slots=True)
class Paging:
    """A page of ``size`` hits (0: all at once) behind ``token``; ``binding`` is what the request asks otherwise."""

    size: int = 0
    token: str = ""
    binding: str = ""


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
    shape: Shape = field(default_factory=Shape)
    paging: Paging = field(default_factory=Paging)
    explain: bool = False
    # Whether what is found first widens the question for a second look; where scores of both arms are fused.
    feedback: bool = True
    # Whether each hit bears its document's metadata.
    with_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """A place in the final order.  A score is None where that list does not hold the chunk.

    ``window`` is the version and its characters that a widened hit covers, ``merged`` the other chunks of
    the section that were found, ``duplicates`` the chunks that it stands for.
    """

    chunk: int
    score: float
    dense: float | None
    sparse: float | None
    rerank: float | None = None
    window: tuple[str, int, int] | None = None
    merged: tuple[int, ...] = ()
    duplicates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A place in one list: rank from 1, 0 where the list does not hold it; ``part`` is what it added to the score."""

    list: str
    query: int
    rank: int
    score: float
    part: float


@dataclass(frozen=True, slots=True)
class Passage:
    """Where a passage stands: characters [start, end) of a version."""

    collection: str
    document: str
    version: str
    chunk: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage as it is found, with the place in the order that it has."""

    passage: Passage
    text: str
    title: str
    heading_path: tuple[str, ...]
    ranked: Ranked
    duplicates: tuple[Passage, ...] = ()
    places: tuple[Place, ...] = ()
    # First and last, counted from 1; 0 where the document has no pages.
    pages: tuple[int, int] = (0, 0)
    # Of its document, plain and typed, where it was asked for.
    metadata: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reranking:
    """What became of reranking: whether it decided the order, why not, and over how many passages."""

    applied: bool
    reason: str
    passages: int


class ExpansionKind(StrEnum):
    """A way to look for more than the question's own words."""

    HYDE = "hyde"
    DECOMPOSITION = "decomposition"
    QUESTION_VECTORS = "question vectors"


@dataclass(frozen=True, slots=True)
class Expansion:
    """What became of one way: whether it had a part in the order, why not, and the texts that were looked for."""

    kind: ExpansionKind
    applied: bool
    reason: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, best first, the wall time of each stage in seconds, and where the next page begins ("" on the last)."""

    hits: tuple[Hit, ...]
    seconds: Mapping[str, float]
    next_page_token: str = ""
    reranking: Reranking | None = None
    filters: tuple[str, ...] = ()
    expansions: tuple[Expansion, ...] = ()
    answerability: Answerability | None = None
    # Of each collection that was searched, in the order of the question.
    versions: Mapping[str, str] = field(default_factory=dict)
