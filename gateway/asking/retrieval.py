"""What the retriever finds, and how it becomes sources that fit the model's window.

Invariants: a source stands in the prompt whole or not at all, so that its span is exactly
the characters that the model read; one that found no room is told, never dropped in silence.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from gateway.asking.prompt import Quotation
from gateway.generation import CollectionVersion, Message, SourceSpan, StageTiming
from gateway.generator import PromptSize
from services.chassis.errors import Failure, Reason

DEFAULT_TOP_K = 3
DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Ranking:
    """How passages are ordered, and how good they are at least; empty and None leave it to the collections.

    ``ranker`` names a reranker, or is ``none``; ``score_threshold`` is of the fused score, 0 to 1; ``dense_weight`` is that
    of vectors beside keywords.
    """

    ranker: str = ""
    score_threshold: float = 0.0
    dense_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Where is looked.  ``narrowed`` is a filter as the retriever packs it, which is not read here; empty for none."""

    collections: tuple[str, ...] = ()
    narrowed: bytes = b""
    as_readers: tuple[str, ...] = ()
    ranking: Ranking = field(default_factory=Ranking)


@dataclass(frozen=True, slots=True)
class Source:
    """One passage with everything a reader wants to see of it."""

    span: SourceSpan
    title: str
    heading_path: tuple[str, ...]
    text: str
    score: float

    @property
    def quotation(self) -> Quotation:
        """The source as the prompt quotes it."""
        return Quotation(self.title, self.text)


class Policy(Enum):
    """What becomes of a question that the collections seem not to answer."""

    UNSPECIFIED = "unspecified"
    STRICT = "strict"
    HEDGE = "hedge"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Answerability:
    """The retriever's word on whether the answer is there, and what the collections want made of one that is not."""

    score: float
    threshold: float
    answerable: bool
    policy: Policy = Policy.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Abstention:
    """The same with the policy that counted, and what was done: no model was asked, or the text begins with a warning."""

    policy: Policy
    score: float
    threshold: float
    answerable: bool
    abstained: bool = False
    hedged: bool = False
    # What is said of it; of a shaped answer in no text.
    says: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """Passages, best first, marked from 1; ``timings`` are the retriever's own stages.

    ``unranked`` says why passages that were to be reranked are not; empty where they are, or were not to be.
    """

    sources: tuple[Source, ...]
    timings: tuple[StageTiming, ...] = ()
    answerability: Answerability | None = None
    unranked: str = ""
    collections: tuple[CollectionVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """Something that a summary says, and what it says it of: at least one passage, whose marker is not set yet."""

    text: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Summarized:
    """What all of one collection says, and the version of it that does."""

    statements: tuple[Statement, ...]
    version: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """Documents of one collection that hold ``words``, of ``searched`` in all; no words counts every document.

    ``titles`` are of the first documents by id, and ``sources`` their first places, whose markers are not set yet.
    """

    collection: str
    documents: int
    searched: int
    words: tuple[str, ...]
    titles: tuple[str, ...]
    sources: tuple[Source | None, ...]
    version: str = ""


class Retriever(Protocol):
    """The retriever as the gateway uses it.  Raises Failure; an unreachable one names itself."""

    async def search(
        self, scope: Scope, query: str, top_k: int, *, shallow: bool = False, within_seconds: float | None = None
    ) -> Found:
        """Find passages in the caller's collections.

        ``shallow`` looks for keywords alone, whatever the collections say: no model has a part in it.
        """

    async def summarize(
        self, scope: Scope, collection: str, focus: str, *, within_seconds: float | None = None
    ) -> Summarized:
        """What all of one collection says: of ``focus``, or in general where that is empty."""

    async def count(
        self, scope: Scope, collection: str, keywords: str, most: int, *, within_seconds: float | None = None
    ) -> Counted:
        """Count the documents of one collection that hold all keywords, and list the first ``most``."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation that fits, the sources that stand in it, those that do not, and its tokens (0: not counted)."""

    messages: list[Message]
    sources: tuple[Source, ...]
    tokens: int = 0
    left_out: tuple[Source, ...] = ()


async def fit(
    sources: Sequence[Source],
    build: Callable[[Sequence[Source]], list[Message]],
    measure: Callable[[Sequence[Message]], Awaitable[PromptSize]],
    max_tokens: int | None,
) -> Fitted:
    """Take the longest run of best sources whose prompt leaves room for the answer.

    Room is ``max_tokens``, but at most half the window: a caller who asks for a long
    answer still gets sources.  ``measure`` counts the whole templated conversation with the
    model's own tokenizer.  Raises PROMPT_TOO_LONG when not even the best source fits:
    answering without the sources that were found would be another question's answer.
    """
    kept, most = 0, len(sources)
    best: Fitted | None = None
    take = most
    while True:
        chosen = tuple(sources[:take])
        messages = build(chosen)
        size = await measure(messages)
        room = min(max_tokens or DEFAULT_MAX_TOKENS, size.context_tokens // 2)
        if size.tokens + room <= size.context_tokens:
            kept, best = take, Fitted(messages, chosen, size.tokens, unmarked(sources[take:]))
        else:
            most = take - 1
        if kept >= most:
            break
        take = (kept + most + 1) // 2
    if best is None:
        limit = size.context_tokens - room
        helps = size.tokens < size.context_tokens
        advice = "Shorten it, or ask for fewer max_tokens" if helps else "Shorten it"
        raise Failure(Reason.PROMPT_TOO_LONG, field="question", tokens=size.tokens, limit=limit, advice=advice)
    return best


def unmarked(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The same sources under no number: nothing can cite them."""
    return tuple(replace(source, span=replace(source.span, marker=0)) for source in sources)


def marked(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The same sources, numbered from 1 in their order."""
    return tuple(
        replace(source, span=replace(source.span, marker=number)) for number, source in enumerate(sources, start=1)
    )
