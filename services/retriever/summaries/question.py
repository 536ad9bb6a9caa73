"""What a summary is asked for, and what it answers.

Invariant: every statement cites characters of serving versions that its viewer may read.
"""

from dataclasses import dataclass

from services.retriever.documents.readers import Viewer
from services.retriever.search.filters import Filter
from services.retriever.summaries.statements import Mode


@dataclass(frozen=True, slots=True)
class Request:
    """What to summarise, for whom, and for what.  Empty ``documents`` means all, ``max_tokens`` 0 no bound."""

    collection: str
    focus: str
    viewer: Viewer
    filter: Filter | None
    documents: tuple[str, ...]
    mode: Mode
    max_tokens: int

    @property
    def is_of_all(self) -> bool:
        """Whether all that the viewer may read is summarised."""
        return self.filter is None and not self.documents


@dataclass(frozen=True, slots=True)
class Cited:
    """Characters [start, end) of a document's serving version."""

    document: str
    version: str
    chunk: int
    start: int
    end: int
    text: str
    # Of the document; may be empty.
    title: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A statement with its citations, at least one; ``generated`` where the generator worded it."""

    text: str
    citations: tuple[Cited, ...]
    generated: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """Statements, the most telling first, and what they were made from.

    ``chunks_read`` of the ``chunks`` that the viewer may read and that pass; nodes that were computed for it, and
    those that were there; the models that it depends on, ``generator_digest`` empty where none was asked; the
    collection's ``version``.
    """

    statements: tuple[Told, ...]
    chunks_read: int
    chunks: int
    nodes_computed: int
    nodes_reused: int
    embedding_digest: str
    generator_digest: str
    version: str
