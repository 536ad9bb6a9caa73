"""A question, answered from sources: retrieve, augment, generate, verify.

Invariants: the sources leave before the first token, and no citation leaves that does not
resolve to characters of a stored document version.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from gateway import prompt
from gateway.answering import Answerer, Wish
from gateway.citations import Citation, verify
from gateway.generation import Generated, Generator, Message, PromptSize, TextDelta
from gateway.retrieval import DEFAULT_TOP_K, Fitted, Retriever, Source, fit
from gateway.routing import Route, Router
from gateway.stages import Stopwatch
from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of which collections; none means an answer without retrieval.

    ``narrowed`` is a filter as the retriever packs it, which is not read here; empty for none.
    """

    text: str
    wish: Wish
    collections: tuple[str, ...] = ()
    history: tuple[Message, ...] = ()
    top_k: int = 0
    instructions: str = ""
    narrowed: bytes = b""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the answer may cite, in the order of the markers."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of an answer with sources."""

    end: Generated
    citations: tuple[Citation, ...]
    unresolved_markers: tuple[int, ...]


class Asker:
    """Answers questions, each through the same stages in the same order."""

    def __init__(
        self,
        router: Router,
        retriever: Retriever,
        generator: Generator,
        answerer: Answerer,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._router = router
        self._retriever = retriever
        self._generator = generator
        self._answerer = answerer
        self._clock = clock
        self._new_id = new_id

    async def ask(self, question: Question) -> AsyncGenerator[Sources | TextDelta | Answer]:
        """Sources, then text as it comes, then the answer's end.

        Raises QUESTION_EMPTY, FIELD_INVALID, MODEL_NOT_FOUND, COLLECTION_NOT_FOUND,
        PROMPT_TOO_LONG, VERSION_MISMATCH, and PEER_UNAVAILABLE naming the service.
        """
        if not question.text.strip():
            raise Failure(Reason.QUESTION_EMPTY, field="question")
        if (question.wish.sampling.n or 1) > 1:
            problem = "must be 1 for a question with sources, whose citations stand in one text; ask again, or chat"
            raise Failure(Reason.FIELD_INVALID, field="sampling.n", problem=problem)
        wish = replace(question.wish, request_id=question.wish.request_id or self._new_id())
        watch = Stopwatch(self._clock)
        with watch.stage("resolve"):
            route = await self._router.resolve(wish.model, wish.sticky_key, question.text, wish.fallback)
        fitted = await self._grounded(question, route, watch) if question.collections else _plain(question)
        yield Sources(fitted.sources)
        spans = tuple(source.span for source in fitted.sources)
        text: list[str] = []
        async with aclosing(self._answerer.answer(fitted.messages, wish, route, watch, spans)) as parts:
            async for part in parts:
                if isinstance(part, TextDelta):
                    text.append(part.text)
                    yield part
                else:
                    yield await self._verified("".join(text), part, watch)

    async def _grounded(self, question: Question, route: Route, watch: Stopwatch) -> Fitted:
        found = await self._search(question, watch)

        def build(sources: Sequence[Source]) -> list[Message]:
            quotations = [source.quotation for source in sources]
            return prompt.grounded(question.text, quotations, question.history, question.instructions)

        async def measure(messages: Sequence[Message]) -> PromptSize:
            return await self._generator.size(messages, route.base, route.version)

        with watch.stage("prompt") as stage:
            fitted = await fit(found, build, measure, question.wish.sampling.max_tokens)
            stage.input_size = fitted.tokens
        return fitted

    async def _search(self, question: Question, watch: Stopwatch) -> tuple[Source, ...]:
        """Search, timed as two stages: embedding as the retriever measured it, and all the rest of the call."""
        began = self._clock()
        most = question.top_k or DEFAULT_TOP_K
        found = await self._retriever.search(question.collections, question.text, most, question.narrowed)
        elapsed = self._clock() - began
        embed = [timing for timing in found.timings if timing.stage == "embed"]
        watch.add(*embed)
        rest = max(0.0, elapsed - sum(timing.seconds for timing in embed))
        watch.measured("retrieve", rest, len(found.sources))
        return found.sources

    async def _verified(self, text: str, end: Generated, watch: Stopwatch) -> Answer:
        with watch.stage("verify") as stage:
            verified = verify(text, end.receipt.sources)
            stage.input_size = len(verified.citations)
        await self._answerer.record(end)
        end = replace(end, timings=watch.timings)
        return Answer(end, verified.citations, verified.unresolved_markers)


def _plain(question: Question) -> Fitted:
    """The conversation without retrieval; the generator itself measures whether it fits."""
    messages = prompt.plain(question.text, question.history, question.instructions)
    return Fitted(messages, ())
