"""What the gateway itself asks the base on the way to an answer.

Invariant: such a question is an ordinary generation: held to its weights, and recorded under the request's id and what it
was for, so that nothing is generated that nobody accounts for.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.answering import Answerer, Wish
from gateway.generation import Message, Sampling, Shape, ShapeKind, Speaker, TextDelta
from gateway.names import BASE
from gateway.routing import Router
from gateway.stages import Stopwatch


class SideQuestions:
    """Asks the deployment's base, greedily."""

    def __init__(self, router: Router, answerer: Answerer) -> None:
        self._router = router
        self._answerer = answerer

    async def answer(
        self, system: str, asked: str, request_id: str, purpose: str, max_tokens: int, choices: Sequence[str] = ()
    ) -> str:
        """What the base says; one of ``choices`` where there are some.  Raises as ``Answerer.answer``."""
        wish = Wish(
            model=BASE,
            sampling=Sampling(max_tokens=max_tokens, temperature=0.0),
            shape=Shape(ShapeKind.CHOICE, choices=tuple(choices)) if choices else None,
            request_id=f"{request_id}~{purpose}",
        )
        route = await self._router.resolve(BASE)
        prompt = [Message(Speaker.SYSTEM, system), Message(Speaker.USER, asked)]
        said: list[str] = []
        # Its stages are inside the one that asks.
        watch = Stopwatch(lambda: 0.0)
        async with aclosing(self._answerer.answer(prompt, wish, route, watch)) as parts:
            async for part in parts:
                if isinstance(part, TextDelta):
                    said.append(part.text)
                else:
                    await self._answerer.record(replace(part, timings=()))
        return "".join(said).strip()
