"""How long the prompt of a response would be, without asking for one.

Invariant: the tokens are those of the conversation that a response would be generated from, of the version that would
answer, counted by whoever would build it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from gateway.answering import Wish
from gateway.asking import prompt
from gateway.generation import Message, Speaker, ToolUse
from gateway.generator import PromptSize
from gateway.responses import conversing
from gateway.responses.nouns import Asked, Item
from gateway.responses.peers import Archive
from gateway.routing import NO_FALLBACK, Router, falls_back
from services.chassis.errors import Failure, Reason


class Measure(Protocol):
    """The generator, as far as it counts.  Raises Failure; an unreachable one names itself."""

    async def size(
        self, messages: Sequence[Message], base: str, version: str, tools: ToolUse | None = None
    ) -> PromptSize:
        """Count the tokens of a conversation exactly as an answer to it would build it."""


class Counting:
    """Counts prompts of responses."""

    def __init__(self, router: Router, measure: Measure, archive: Archive) -> None:
        self._router = router
        self._measure = measure
        self._archive = archive

    async def counted(self, asked: Asked) -> PromptSize:
        """Tokens of the prompt, and the window that it shares with the answer.

        Raises RESPONSE_NOT_FOUND, CONVERSATION_TOO_LONG, QUESTION_EMPTY, FIELD_INVALID for a search too, MODEL_NOT_FOUND,
        ALIAS_NOT_SERVING, and what the generator refuses with.
        """
        if asked.settings.searched is not None:
            problem = "its passages stand in the prompt, and are not known before the search; count without it"
            raise Failure(Reason.FIELD_INVALID, field="settings.file_search", problem=problem)
        previous = asked.settings.previous
        earlier = await self._archive.conversation(previous) if previous else []
        messages, wish = _prompt(asked, earlier)
        said = next((turn.content for turn in reversed(messages) if turn.speaker is Speaker.USER), "")
        route = await self._router.resolve(wish.model, wish.sticky_key, said, wish.fallback)
        while True:
            try:
                return await self._measure.size(messages, route.base, route.version, wish.tools)
            except Failure as failure:
                # As a response would go on; which model answered is told with it.
                if not falls_back(failure, route):
                    raise
                route = await self._router.fall_back(route, failure, wish.sticky_key)


def _prompt(asked: Asked, earlier: Sequence[Item]) -> tuple[Sequence[Message], Wish]:
    """The conversation that a response would be generated from."""
    if conversing.with_functions(asked, earlier):
        return conversing.turns_and_wish(asked, earlier)
    question = conversing.question(asked, earlier)
    if not question.text.strip():
        raise Failure(Reason.QUESTION_EMPTY, field="question")
    # As Asker does: without replacements the owner's is none either.
    fallback = question.wish.fallback or ("" if question.fallbacks else NO_FALLBACK)
    wish = replace(question.wish, fallback=fallback)
    return prompt.plain(question.text, question.history, question.instructions), wish
