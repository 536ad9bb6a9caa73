"""An answer of the model's from sources: the prompt that fits, the text as it may leave, and what its check finds.

Invariant: no citation leaves that does not resolve to characters of a source that the model read.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from gateway.answering import Answerer
from gateway.asking import abstaining, ending, prompt
from gateway.asking.checking import Checking
from gateway.asking.guard import Guard
from gateway.asking.question import Answer, Question, Release, Sources, Unsupported
from gateway.asking.quotes import Quotable
from gateway.asking.release import Checked, Outlet
from gateway.asking.retrieval import Fitted, Source, fit
from gateway.asking.side_questions import SideQuestions
from gateway.asking.stages import BudgetSpentError, InPieces, Stages
from gateway.asking.support import Embedder, Support
from gateway.generation import Message, TextDelta
from gateway.generator import Generator, PromptSize
from gateway.routing import Route, Router, falls_back
from services.chassis.errors import Failure, Reason

_NARROWED = "those sentences of the sources that share most words with one of the answer"


class Writing:
    """Has the model answer, from the sources that fit."""

    def __init__(
        self,
        generator: Generator,
        embedder: Embedder,
        answerer: Answerer,
        router: Router,
        side: SideQuestions,
    ) -> None:
        self._generator = generator
        self._embedder = embedder
        self._answerer = answerer
        self._router = router
        self._side = side

    async def written(
        self, question: Question, route: Route, told: Sources, stages: Stages
    ) -> AsyncGenerator[Sources | TextDelta | Answer]:
        """An answer of the model's, from the sources that fit."""
        route, shape, fitted = await self._served(question, route, told, stages)
        told = replace(told, sources=fitted.sources, left_out=fitted.left_out)
        yield told
        shaped = question.wish.shape is not None
        hedged = told.abstention is not None and told.abstention.hedged and not shaped
        verifying = stages.in_pieces("verify")
        outlet = self._outlet(question, told, stages, verifying, opening=abstaining.HEDGE if hedged else "")
        if hedged:
            yield TextDelta(abstaining.HEDGE)
        answering = self._answerer.answer(
            fitted.messages, question.wish, route, stages.watch, told.basis, outlet.leaving
        )
        async with aclosing(answering) as parts:
            async for part in parts:
                if isinstance(part, TextDelta):
                    async for piece in outlet.push(part):
                        yield piece
                else:
                    async with self._answerer.accounted(part):
                        async for piece in outlet.finish():
                            yield piece
                        checked = await self._checked(outlet, told, verifying)
                    await self._answerer.record(part)
                    yield ending.ended(question, ending.answer(part, checked, told, shape or prompt.FORMAT), stages)

    async def _served(
        self, question: Question, route: Route, told: Sources, stages: Stages
    ) -> tuple[Route, str, Fitted]:
        """The route whose prompt could be counted, its prompt's format, and what fits."""
        while True:
            shape = _shape_of_prompt(route, stages)
            try:
                return route, shape, await self._fitted(question, route, told, shape, stages)
            except Failure as failure:
                # A version may bring the template that it is counted by: one that cannot serve is found out here.
                if not falls_back(failure, route):
                    raise
                with stages.watch.stage("resolve"):
                    route = await self._router.fall_back(route, failure, question.wish.sticky_key)

    async def _fitted(self, question: Question, route: Route, told: Sources, shape: str, stages: Stages) -> Fitted:
        asked = told.rewrite.question if told.rewrite else question.text

        def build(sources: Sequence[Source]) -> list[Message]:
            quotations = [source.quotation for source in sources]
            return prompt.grounded(asked, quotations, question.history, question.instructions, shape)

        async def measure(messages: Sequence[Message]) -> PromptSize:
            return await self._generator.size(messages, route.base, route.version)

        try:
            async with stages.stage("prompt") as stage:
                fitted = await fit(told.sources, build, measure, question.wish.sampling.max_tokens)
                stage.input_size = fitted.tokens
                stage.decision = f"{len(fitted.sources)} sources of {len(told.sources)}, {shape or prompt.FORMAT}"
        except BudgetSpentError as spent:
            # Nobody else counts by this model's own tokens.
            raise Failure(Reason.DEADLINE_EXCEEDED) from spent
        return fitted

    def _outlet(self, question: Question, told: Sources, stages: Stages, verifying: InPieces, opening: str) -> Outlet:
        guard = None
        if question.wish.shape is None:
            markers = [source.span.marker for source in told.sources]
            guard = Guard(markers, Quotable(told.sources, question.text))
        checking = Checking(self._side, question.wish.request_id, stages)
        return Outlet(
            guard,
            Support(
                told.sources,
                self._embedder,
                partial(stages.fell_back, "verify", "the words of each sentence alone"),
                checking.says if question.check_support else None,
                narrowed=partial(stages.note, "verify", _NARROWED),
                limited=verifying.limited,
            ),
            by_sentence=question.release is Release.SENTENCE and guard is not None,
            withhold=question.unsupported is Unsupported.WITHHOLD,
            opening=opening,
            judging=verifying.piece,
        )

    async def _checked(self, outlet: Outlet, told: Sources, verifying: InPieces) -> Checked:
        async with verifying.piece() as stage:
            checked = await outlet.checked(tuple(source.span for source in told.sources))
            stage.input_size = len(checked.sentences)
            stage.decision = f"{len(checked.verified.citations)} citations"
        verifying.end()
        return checked


def _shape_of_prompt(route: Route, stages: Stages) -> str:
    """The prompt's format: what the version was trained with, else the default."""
    if prompt.known(route.prompt_format):
        return route.prompt_format
    stages.note("prompt", prompt.FORMAT, f"the version was trained on {route.prompt_format}, which is not known here")
    return ""
