"""Conversation and continuation: a prompt of the caller's own, answered by the version that its model name means."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from gateway.answering import Answerer, Wish
from gateway.asking.stages import Stages, Tracer, remaining
from gateway.generation import Generated, Prompts, Several, Speaker, TextDelta, TokenIds
from gateway.names import AUTO, canonical
from gateway.routing import Router
from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns to answer, or what is to be continued without a template."""

    prompt: Prompts
    wish: Wish


class Chatter:
    """Answers prompts as they are: nothing is added to what the caller wrote."""

    def __init__(
        self,
        router: Router,
        answerer: Answerer,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        trace: Tracer,
    ) -> None:
        self._router = router
        self._answerer = answerer
        self._clock = clock
        self._new_id = new_id
        self._trace = trace

    async def chat(self, conversation: Conversation) -> AsyncGenerator[TextDelta | Generated]:
        """Text as it comes, then one end.

        Raises MODEL_NOT_FOUND, FIELD_INVALID where ``auto`` has no one text to go by, and as ``Answerer.answer``.
        """
        wish = replace(conversation.wish, request_id=conversation.wish.request_id or self._new_id())
        prompt = await self._answerer.admitted(conversation.prompt, wish)
        stages = Stages(self._clock, remaining, self._trace)
        with stages.moment("resolve") as stage:
            question = _question(prompt, wish.model)
            route = await self._router.resolve(wish.model, wish.sticky_key, question, wish.fallback)
            stage.decision = route.resolved
        async with aclosing(self._answerer.answer(prompt, wish, route, stages.watch)) as parts:
            async for part in parts:
                if isinstance(part, Generated):
                    stages.end(part.timings)
                    await self._answerer.record(part)
                yield part


def _question(prompt: Prompts, model: str) -> str:
    """What ``auto`` goes by: the last turn of the user's, or the text that is continued."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Several | TokenIds):
        if canonical(model) == AUTO:
            problem = "auto chooses by one text: name a model, or send each prompt as a request of its own, as text"
            raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)
        return ""
    return next((turn.content for turn in reversed(prompt) if turn.speaker is Speaker.USER), "")
