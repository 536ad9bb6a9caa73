"""The prompt of an earlier request, built again from what its caller kept and the documents as they then were."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.asking import abstaining, prompt
from gateway.asking.guard import Guard
from gateway.asking.question import Question, Unsupported
from gateway.asking.quotes import Quotable
from gateway.asking.retrieval import Source
from gateway.chat import Conversation
from gateway.generation import Prompts, Receipt, Several, Shape, ToolUse
from gateway.replaying.nouns import Recalled, Reread
from gateway.replaying.peers import SourceTexts
from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A prompt, the sources that were read for it, and what of a model's words its caller was shown."""

    prompt: Prompts
    shown: Callable[[str], str]
    answer: str | None
    sources: tuple[Reread, ...] = ()
    tools: ToolUse | None = None
    shape: Shape | None = None

    @property
    def missing(self) -> tuple[Reread, ...]:
        """Sources whose text is gone."""
        return tuple(source for source in self.sources if source.text is None)


async def rebuilt(recalled: Recalled, receipt: Receipt, prompt_format: str, texts: SourceTexts) -> Rebuilt:
    """The prompt of ``recalled``; what the request does not say, the receipt does.

    Raises FIELD_INVALID where the request or the text cannot be those of this receipt.
    """
    wish = recalled.asked.wish
    if wish.request_id and wish.request_id != recalled.request_id:
        problem = f"is that of the request {wish.request_id}, and the receipt is of {recalled.request_id}"
        raise Failure(Reason.FIELD_INVALID, field="request", problem=problem)
    several = isinstance(recalled.asked, Conversation) and isinstance(recalled.asked.prompt, Several)
    if recalled.answer is not None and (several or (receipt.sampling.n or 1) > 1):
        problem = "must be left out where several answers were given: their tokens are compared by the receipt's digest"
        raise Failure(Reason.FIELD_INVALID, field="answer", problem=problem)
    if isinstance(recalled.asked, Conversation):
        conversation = recalled.asked
        return Rebuilt(conversation.prompt, _as_it_is, recalled.answer, tools=wish.tools, shape=wish.shape)
    return await _question(recalled, recalled.asked, receipt, prompt_format, texts)


async def _question(
    recalled: Recalled, question: Question, receipt: Receipt, prompt_format: str, texts: SourceTexts
) -> Rebuilt:
    shape = question.wish.shape
    if not question.scope.collections:
        messages = prompt.plain(question.text, question.history, question.instructions)
        return Rebuilt(messages, _as_it_is, recalled.answer, shape=shape)
    if recalled.answer is not None and question.unsupported is Unsupported.WITHHOLD:
        problem = (
            "must be left out where sentences were withheld from it; the tokens are compared by the receipt's digest"
        )
        raise Failure(Reason.FIELD_INVALID, field="answer", problem=problem)
    readers = question.scope.as_readers
    read = tuple(await asyncio.gather(*(texts.read(span, readers) for span in receipt.sources)))
    quotations = [prompt.Quotation(source.title, source.text or "") for source in read]
    shaped_as = prompt_format if prompt.known(prompt_format) else ""
    messages = prompt.grounded(
        recalled.rewritten or question.text, quotations, question.history, question.instructions, shaped_as
    )
    if shape is not None:
        return Rebuilt(messages, _as_it_is, recalled.answer, read, shape=shape)
    # What a hedged answer begins with is ours, not the model's.
    answer = None if recalled.answer is None else recalled.answer.removeprefix(abstaining.HEDGE)
    return Rebuilt(messages, _guarded(question, read), answer, read)


def _guarded(question: Question, read: Sequence[Reread]) -> Callable[[str], str]:
    sources = tuple(Source(item.span, item.title, (), item.text or "", 0.0) for item in read)
    markers = [source.span.marker for source in sources]

    def shown(text: str) -> str:
        guard = Guard(markers, Quotable(sources, question.text))
        return guard.push(text) + guard.finish()

    return shown


def _as_it_is(text: str) -> str:
    return text
