"""What the gateway itself asks the base on the way to an answer.

Invariant: such a question is an ordinary generation: held to its weights, to the limits that it falls under itself, for as
long as it is asked, and recorded under the request's id and what it was for, so that nothing is generated that nobody
accounts for.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.answering import Answerer, Wish
from gateway.generation import Message, Sampling, Shape, ShapeKind, Speaker, TextDelta
from gateway.leaving import held
from gateway.limits.gate import aside
from gateway.limits.terms import Demand, guessed_tokens
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
        demand = Demand(BASE, guessed_tokens((system, asked)), max_tokens)
        prompt = [Message(Speaker.SYSTEM, system), Message(Speaker.USER, asked)]
        with held():
            async with aside(demand):
                return await self._said(prompt, wish)

    async def _said(self, prompt: Sequence[Message], wish: Wish) -> str:
        route = await self._router.resolve(BASE)
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
