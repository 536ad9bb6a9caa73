"""What the routes of chat and completions answer with, and what all routes share: the document of the API is made of these.

Nothing is built through them at run time, where a token would cost a validation; tests hold what is sent to them.
"""

from typing import Any, Literal

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


class TokenShown(Strict):
    """A token and the natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenWithRivals(TokenShown):
    """A token and its likeliest rivals."""

    top_logprobs: list[TokenShown]


class ChatLogprobs(Strict):
    """The tokens of an answer."""

    content: list[TokenWithRivals]
    refusal: None


class CalledFunctionShown(Strict):
    """The function of a call; ``arguments`` is JSON as text."""

    name: str
    arguments: str


class CallShown(Strict):
    """One call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunctionShown


class ChatMessage(Strict):
    """What the model said; no content where it only calls, or where the sources do not hold what was to have a shape."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: tuple[CallShown, ...] = ()


class ChatChoice(Strict):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatAnswer(Strict):
    """A turn."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: Usage
    trivium: MadeOf


class FunctionPart(Strict):
    """More of a call's function; its name in the first part alone."""

    name: str = ""
    arguments: str


class CallPart(Strict):
    """More of a call; its id in the first part alone."""

    index: int
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionPart


class ChatDelta(Strict):
    """More of an answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None = ""
    refusal: str = ""
    tool_calls: tuple[CallPart, ...] = ()


class ChatChunkChoice(Strict):
    """More of one answer, or its end."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatChunk(Strict):
    """One event of a streamed turn; the last one with ``usage`` has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    trivium: MadeOf | None = None


class TextLogprobs(Strict):
    """The tokens of a continuation, side by side."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Strict):
    """One continuation, or more of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class TextAnswer(Strict):
    """A continuation, or one event of it."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[TextChoice]
    usage: Usage | None = None
    trivium: MadeOf | None = None


class NoQuery(Strict):
    """No parameters: any is refused by name."""
