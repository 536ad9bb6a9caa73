"""What the routes of vector stores answer with: the document of the API is made of these, and tests hold answers to them."""

from typing import Literal

from gateway.http.parsing import Strict

Attributes = dict[str, str | int | float | bool]


class Counts(Strict):
    """How many files are how far."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class Ends(Strict):
    """When a store ends by itself."""

    anchor: Literal["last_active_at"]
    days: int


class StoreShown(Strict):
    """A store."""

    id: str
    object: Literal["vector_store"]
    created_at: int
    name: str
    description: str | None
    usage_bytes: int
    file_counts: Counts
    status: Literal["in_progress", "completed", "expired"]
    expires_after: Ends | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]


class LastError(Strict):
    """Why a file failed."""

    code: Literal["unsupported_file", "invalid_file"]
    message: str


class Chunking(Strict):
    """Files are cut by their own structure, for which OpenAI has no name."""

    type: Literal["other"]


class FileFacts(Strict):
    """What a file of a store is called, and what it waits for."""

    filename: str
    waits_for: str


class FileShown(Strict):
    """A file of a store."""

    id: str
    object: Literal["vector_store.file"]
    created_at: int
    usage_bytes: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "failed"]
    last_error: LastError | None
    chunking_strategy: Chunking
    attributes: Attributes
    trivium: FileFacts


class BatchShown(Strict):
    """Files that were put into a store as one."""

    id: str
    object: Literal["vector_store.files_batch"]
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "failed", "cancelled"]
    file_counts: Counts


class StoresShown(Strict):
    """A page of stores."""

    object: Literal["list"]
    data: list[StoreShown]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FilesShown(Strict):
    """A page of files."""

    object: Literal["list"]
    data: list[FileShown]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(Strict):
    """What is there no more."""

    id: str
    object: Literal["vector_store.deleted", "vector_store.file.deleted"]
    deleted: Literal[True]


class FoundText(Strict):
    """Characters of a passage."""

    type: Literal["text"]
    text: str


class Place(Strict):
    """Where a passage stands: characters [start, end) of a document version, in code points."""

    version: str
    chunk: str
    start: int
    end: int


class FoundPassage(Strict):
    """A passage."""

    file_id: str
    filename: str
    score: float
    attributes: Attributes
    content: list[FoundText]
    trivium: Place


class FoundShown(Strict):
    """Passages, all on one page."""

    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[FoundPassage]
    has_more: Literal[False]
    next_page: None


class Version(Strict):
    """Of which document version a text is."""

    version: str


class TextShown(FoundText):
    """A piece of a file's text."""

    trivium: Version


class ContentShown(Strict):
    """The text of a file, in pieces."""

    object: Literal["vector_store.file_content.page"]
    data: list[TextShown]
    has_more: Literal[False]
    next_page: None
