"""What the answers of all routes share: the document of the API is made of these.

Nothing is built through them at run time, where a token would cost a validation; tests hold what is sent to them.
"""

from typing import Any

from gateway.http.parsing import Strict


class ErrorBody(Strict):
    """What went wrong: ``code`` is the reason of the catalogue in lower case, ``param`` the request's field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class Error(Strict):
    """A failure in the shape that OpenAI's clients read."""

    error: ErrorBody


class CachedTokens(Strict):
    """Of the prompt's tokens those that an earlier prompt of the tenant had computed."""

    cached_tokens: int


class Usage(Strict):
    """Tokens that a request cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Span(Strict):
    """Characters [start, end) of a document version, in code points."""

    marker: int
    collection: str
    document: str
    version: str
    start: int
    end: int
    chunk: str


class SourceShown(Span):
    """A source, before the answer."""

    title: str
    heading_path: list[str]
    text: str
    score: float


class CitationShown(Span):
    """A marker of the answer and what it points at."""

    answer_start: int
    answer_end: int


class StageShown(Strict):
    """Wall time of one stage."""

    stage: str
    seconds: float
    input_size: int


class FallbackShown(Strict):
    """What answered instead of what was asked for, and why."""

    stage: str
    instead: str
    reason: str


class CollectionVersion(Strict):
    """A collection, and its version when it was searched, summarised or counted."""

    collection: str
    version: str


class Receipt(Strict):
    """Everything that determined an answer."""

    request_id: str
    requested_model: str
    resolved_model: str
    version: str | None
    base_digest: str
    engine: str
    engine_build: str
    engine_slot: int
    template_digest: str
    prompt_tokens_digest: str
    completion_digest: str
    sampling: dict[str, Any]
    sources: list[Span]
    collections: list[CollectionVersion]
    usage: Usage
    complete_time: str


class AbstentionShown(Strict):
    """Whether the collections seem to hold the answer, and what was done."""

    policy: str
    score: float
    threshold: float
    answerable: bool
    abstained: bool
    hedged: bool
    says: str


class RewriteShown(Strict):
    """The question as it was looked for, and why it is another one than was asked, or why not."""

    question: str
    rewritten: bool
    reason: str


class SentenceShown(Strict):
    """Whether a source supports a sentence of the answer; ``text`` of one that was withheld."""

    start: int
    end: int
    verdict: str
    judge: str
    words: float
    similarity: float | None
    marker: int | None
    withheld: bool
    text: str = ""


class QuoteShown(Strict):
    """A quotation of the answer, and where its characters stand."""

    answer_start: int
    answer_end: int
    found: bool
    span: Span | None


class ExplainedStage(Strict):
    """A stage with the most time that it was given, and what it decided."""

    stage: str
    seconds: float
    input_size: int
    budget_seconds: float | None
    decision: str


class MadeOf(Strict):
    """What an answer was made of; sources and citations where a collection was named."""

    request_id: str = ""
    resolved_model: str = ""
    version: str | None = None
    receipt: Receipt | None = None
    timings: tuple[StageShown, ...] = ()
    sources: tuple[SourceShown, ...] = ()
    citations: tuple[CitationShown, ...] = ()
    unresolved_markers: tuple[int, ...] = ()
    fallbacks: tuple[FallbackShown, ...] = ()
    path: str = ""
    abstention: AbstentionShown | None = None
    rewrite: RewriteShown | None = None
    left_out: tuple[SourceShown, ...] = ()
    sentences: tuple[SentenceShown, ...] = ()
    quotes: tuple[QuoteShown, ...] = ()
    prompt_format: str | None = None
    stages: tuple[ExplainedStage, ...] = ()


class NoQuery(Strict):
    """No parameters: any is refused by name."""
