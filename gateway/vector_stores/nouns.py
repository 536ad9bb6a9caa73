"""What a vector store is, and what is in one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

# As the retriever types metadata; texts are labels.
Value = str | float | bool | datetime | tuple[str, ...]
Attributes = Mapping[str, Value]


class Order(Enum):
    """By age, in which direction."""

    NEWEST_FIRST = "newest first"
    OLDEST_FIRST = "oldest first"


class StoreStatus(Enum):
    """How far a store is."""

    IN_PROGRESS = "in progress"
    COMPLETED = "completed"
    EXPIRED = "expired"


class FileStatus(Enum):
    """How far a file of a store is."""

    IN_PROGRESS = "in progress"
    COMPLETED = "completed"
    FAILED = "failed"


class BatchState(Enum):
    """How far files are that were brought together."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many files are how far; cancelled are those of a batch that are in the store no more."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_progress + self.completed + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as the retriever describes it.  Times are Unix time in seconds; ``etag`` is another after each change."""

    collection: str
    title: str
    description: str
    metadata: Mapping[str, str]
    created_at: float
    last_active_at: float
    expire_after_seconds: int
    expires_at: float | None
    expired: bool
    etag: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a collection holds: its documents by state, and their bytes as they came."""

    files: FileCounts
    source_bytes: int


@dataclass(frozen=True, slots=True)
class Store:
    """A collection with what it holds."""

    collection: Collection
    holdings: Holdings

    @property
    def status(self) -> StoreStatus:
        """How far it is."""
        if self.collection.expired:
            return StoreStatus.EXPIRED
        return StoreStatus.IN_PROGRESS if self.holdings.files.in_progress else StoreStatus.COMPLETED


@dataclass(frozen=True, slots=True)
class StoreDraft:
    """What a new store is to be; it expires after these days without use, 0 for never."""

    name: str = ""
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    expire_after_days: int = 0
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreChange:
    """What is to be another; None leaves what is."""

    name: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] | None = None
    expire_after_days: int | None = None


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file of the service of files: its name, its media type ("" where none was given), its length and SHA-256."""

    file: str
    filename: str
    media_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileDraft:
    """A file that is to be put into a store, with the attributes that it is to have there."""

    file: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store.  ``problem`` is why it failed or waits; of one that was refused nothing is stored."""

    file: str
    store: str
    filename: str
    created_at: float
    status: FileStatus
    problem: str
    usage_bytes: int
    attributes: Attributes
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that were put into a store as one."""

    batch: str
    store: str
    state: BatchState
    files: FileCounts
    created_at: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was to be in a batch, and why it is not."""

    file: str
    problem: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Which page of a list: behind ``after``, or what ends before ``before``; a ``limit`` of 0 is the default."""

    limit: int = 0
    order: Order = Order.NEWEST_FIRST
    after: str = ""
    before: str = ""
    status: FileStatus | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for.  ``narrowed`` is a filter as the retriever packs it, which is not read here; empty for none.

    An empty ``ranker`` leaves it to the collection; ``none`` is no reranking.  ``dense_weight`` is that of
    vectors beside keywords, 0 to 1; None leaves it to the collection.
    """

    texts: tuple[str, ...]
    narrowed: bytes = b""
    most: int = 0
    ranker: str = ""
    score_threshold: float = 0.0
    dense_weight: float | None = None
    rewrite: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage: characters [start, end) of a version of a document, with the document's attributes."""

    store: str
    file: str
    filename: str
    version: str
    chunk: str
    start: int
    end: int
    text: str
    score: float
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Found:
    """Passages, best first, and what was looked for beside the queries."""

    hits: tuple[Hit, ...]
    expansions: tuple[str, ...] = ()
