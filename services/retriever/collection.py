"""A collection as it is shown, what a new one is to be, and what of one may be changed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.retriever.questions.rows import Progress
from services.retriever.reembedding.state import Change as ModelChange
from services.retriever.search import answerable
from services.retriever.search.settings import SearchSettings
from services.retriever.store import CollectionRow


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as it is shown.  ``created_at`` is Unix time in seconds."""

    tenant: str
    collection: str
    description: str
    embedding_digest: str
    created_at: float
    etag: str
    # Empty is the deployment's index.
    index_kind: str = ""
    change: ModelChange | None = None
    search_settings: SearchSettings = field(default_factory=SearchSettings)
    answerable_threshold: float = answerable.THRESHOLD
    # What it was under the model before, whose scores do not compare; None where nothing was lost, or another is stored.
    former_threshold: float | None = None
    questions: Progress | None = None
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    # Seconds without use, 0 for never; Unix time of the last use, and of the expiry once it is past.
    expire_after_seconds: int = 0
    last_active_at: float = 0.0
    expired_at: float | None = None
    # Of what a search finds, and of how it ranks and judges that.
    version: str = ""

    @property
    def expires_at(self) -> float | None:
        """Unix time of its expiry: past, or to come if it is not used before; None where it never expires."""
        if self.expired_at is not None or not self.expire_after_seconds:
            return self.expired_at
        return self.last_active_at + self.expire_after_seconds


@dataclass(frozen=True, slots=True)
class Draft:
    """What a new collection is to be; it expires after these seconds without use, 0 for never."""

    collection: str
    description: str = ""
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    expire_after_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be another; None leaves what is.  Empty ``etag`` overwrites whatever stands there."""

    description: str | None = None
    title: str | None = None
    metadata: Mapping[str, str] | None = None
    expire_after_seconds: int | None = None
    settings: SearchSettings | None = None
    answerable_threshold: float | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a collection holds: documents by state, chunks and characters that are searchable."""

    documents: int
    chunks: int
    characters: int
    pending: int
    failed: int
    vectors_computed: int
    source_bytes: int


def apply(row: CollectionRow, wanted: Change) -> None:
    """Write what is to be another into the row."""
    if wanted.description is not None:
        row.description = wanted.description
    if wanted.title is not None:
        row.title = wanted.title
    if wanted.metadata is not None:
        row.metadata_json = packed(wanted.metadata)
    if wanted.expire_after_seconds is not None:
        row.expire_after_seconds = wanted.expire_after_seconds
    if wanted.settings is not None:
        if wanted.settings != SearchSettings.unpacked(row.search_settings_json):
            # The same in other words would make another version.
            row.search_settings_json = wanted.settings.packed()
        row.questions_per_chunk, row.questions_reason = wanted.settings.questions_per_chunk, ""
    if wanted.answerable_threshold is not None:
        row.answerable_threshold, row.former_threshold = wanted.answerable_threshold, None


def packed(metadata: Mapping[str, str]) -> str:
    """Metadata as the catalog keeps it."""
    return json.dumps(dict(sorted(metadata.items())))
