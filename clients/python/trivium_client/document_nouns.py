"""Collections, documents and what a search finds in them.  As `nouns`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, overload


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a collection is searched where a request does not say.

    `mode` is hybrid, dense or sparse, empty for the deployment's, as `dense_weight` is with None.  `hyde` is off, weak or
    always: when a generator writes a passage that might answer, whose neighbours are found as well; `decompose` has it
    break the question up.  `abstention` is what `ask` makes of questions that the collection seems not to answer: strict
    (says so, and asks no model), hedge (says so before the answer) or off; empty leaves it to the request, else hedge.
    """

    mode: str = ""
    dense_weight: float | None = None
    rerank: bool = False
    hyde: str = "off"
    decompose: bool = False
    # Questions that are written for each chunk; 0: none.
    questions_per_chunk: int = 0
    rerank_model: str = ""
    abstention: str = ""


@dataclass(frozen=True, slots=True)
class Reembedding:
    """A change of a collection's embedding model: `running`, or failed; `reason` says why it waits or failed.

    `documents` are those that are searchable, `documents_done` those of them that have the new model's vectors.
    """

    model: str
    embedding_digest: str
    running: bool
    reason: str
    documents: int
    documents_done: int


@dataclass(frozen=True, slots=True)
class QuestionProgress:
    """How far the questions of a collection's chunks are; `reason` says why those that are not done wait."""

    chunks: int
    chunks_done: int
    reason: str


@dataclass(frozen=True, slots=True)
class TuningTrial:
    """A way to search that was tried: means of nDCG@10, recall@10 and seconds a search, by documents.

    `gain` is in nDCG@10 over what was taken before, `gain_low` to `gain_high` its 95 % interval; `note` says why it was
    not measured, or in how many questions it had a part.
    """

    trial: str
    search_settings: SearchSettings
    ndcg: float
    recall: float
    gain: float
    gain_low: float
    gain_high: float
    seconds: float
    taken: bool
    note: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold from which on a search says that the answer is there, on questions it was not fitted on.

    `answered` is the part of the questions with an answer that reach it, `refused` that of the others which do not;
    `gain` is their mean over that of the default threshold, `gain_low` to `gain_high` its 95 % interval.
    """

    threshold: float
    auc: float
    answered: float
    refused: float
    gain: float
    gain_low: float
    gain_high: float
    taken: bool


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What tuning came to: every trial, the settings that the questions bear out, and whether the collection has them.

    `calibration` is None unless there were questions that the documents do not answer.
    """

    trials: tuple[TuningTrial, ...]
    search_settings: SearchSettings
    applied: bool
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """A set of documents that are searched together; `index` is embedded or weaviate."""

    collection: str
    description: str
    embedding_digest: str
    etag: str
    create_time: datetime | None
    search_settings: SearchSettings = field(default_factory=SearchSettings)
    # From which score on the answer counts as found (`Findings.answerability`).
    answerable_threshold: float = 0.5
    # What that was under the embedding model before, whose scores do not compare; None since another was stored.
    former_answerable_threshold: float | None = None
    # None where no questions are written.
    questions: QuestionProgress | None = None
    index: str = ""
    reembedding: Reembedding | None = None


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """How far a new build of an index is; `digest`, of all that was read back of it, is set once it serves."""

    index: str
    chunks_done: int
    chunks: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """One document; `state` is pending, running, ready or failed, and `reason` says why it waits or failed.

    `notice` says what is amiss with one that is ready: pages without text, a script that the model does not know.
    """

    collection: str
    document: str
    title: str
    state: str
    reason: str
    serving_version: str
    newest_version: str
    media_type: str
    metadata: dict[str, str]
    chunks: int
    chunks_embedded: int
    chunks_reused: int
    update_time: datetime | None
    source_sha256: str = ""
    notice: str = ""
    # Ids that may read it; empty means everybody of the tenant.
    readers: tuple[str, ...] = ()
    # Metadata that are not texts: numbers, booleans, datetimes in UTC, tuples of texts.
    typed_metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentText:
    """Characters of one document version, and how many the whole version has."""

    text: str
    version: str
    characters: int


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end), in code points, of one immutable document version."""

    collection: str
    document: str
    version: str
    start: int
    end: int
    chunk: str = ""
    marker: int = 0


@dataclass(frozen=True, slots=True)
class ListPlace:
    """A place in one list (dense, sparse, query or rerank); rank 0: the list lacks it and its score counted all the same.

    `part` is what that added to the fused score.
    """

    list: str
    query: int
    rank: int
    score: float
    part: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage that a search found; `dense_score` is a cosine, `sparse_score` BM25, None where that arm missed it.

    `rerank_score` is None where it was not reranked; `duplicates` are the passages that it stands for, `merged_chunks`
    the others of its section that are in it; `places` tell how it came to its place, when that was asked for.
    `first_page` and `last_page` count from 1, and are 0 where the document has no pages.
    """

    span: Span
    text: str
    title: str
    heading_path: tuple[str, ...]
    score: float
    dense_score: float | None = None
    sparse_score: float | None = None
    rerank_score: float | None = None
    duplicates: tuple[Span, ...] = ()
    merged_chunks: tuple[str, ...] = ()
    places: tuple[ListPlace, ...] = ()
    first_page: int = 0
    last_page: int = 0


@dataclass(frozen=True, slots=True)
class Answerability:
    """Whether the collections seem to hold the answer: a score from 0 to 1, and what it was held against."""

    score: float
    threshold: float
    answerable: bool


@dataclass(frozen=True, slots=True)
class SearchExpansion:
    """What was looked for beside the queries (`kind`: hyde, decomposition or question_vectors), or `reason` why not."""

    kind: str
    applied: bool
    reason: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reranking:
    """What became of reranking: whether the order is the reranker's, else why not, and how many passages it read."""

    applied: bool
    reason: str
    passages: int


@dataclass(frozen=True, slots=True)
class Findings(Sequence[Hit]):
    """The hits of a search, best first, and what it says of them as a whole.

    `answerability` is None where only one of keywords and vectors was looked for, `reranking` where nobody asked for it.
    """

    hits: tuple[Hit, ...]
    answerability: Answerability | None = None
    expansions: tuple[SearchExpansion, ...] = ()
    reranking: Reranking | None = None

    def __len__(self) -> int:
        """How many hits."""
        return len(self.hits)

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Hit]: ...
    def __getitem__(self, at: int | slice) -> Hit | Sequence[Hit]:
        """A hit, or some."""
        return self.hits[at]
