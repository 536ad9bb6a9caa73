"""What the retriever finds, and how it becomes sources that fit the model's window.

Invariant: a source stands in the prompt whole or not at all, so that its span is exactly
the characters that the model read.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.generation import Message, PromptSize, SourceSpan, StageTiming
from gateway.prompt import Quotation
from services.chassis.errors import Failure, Reason

DEFAULT_TOP_K = 3
DEFAULT_MAX_TOKENS = 256


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


@dataclass(frozen=True, slots=True)
class Found:
    """Passages, best first, marked from 1; ``timings`` are the retriever's own stages."""

    sources: tuple[Source, ...]
    timings: tuple[StageTiming, ...]


class Retriever(Protocol):
    """The retriever as the gateway uses it.  Raises Failure; an unreachable one names itself."""

    async def search(self, collections: Sequence[str], query: str, top_k: int, narrowed: bytes = b"") -> Found:
        """Find passages in the caller's collections, of documents that pass the filter where there is one."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation that fits, the sources that stand in it, and its tokens (0: not counted)."""

    messages: list[Message]
    sources: tuple[Source, ...]
    tokens: int = 0


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
            kept, best = take, Fitted(messages, chosen, size.tokens)
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
