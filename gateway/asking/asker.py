"""A question, answered from sources: the stages of an answer in their order.

Rewrite, resolve, embed, retrieve, rerank, decide, prompt, generate, verify.  The name is resolved, and its version begins to
load, while passages are looked for; only what `auto` means waits for a question to be made whole.  Invariants: the sources leave before the first token, no citation leaves that does not
resolve to characters of a stored document version, and nothing is left out or replaced without being told.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.answering import Answerer
from gateway.asking import abstaining, beside, ending, prompt, rewriting
from gateway.asking.looking import Looked, Looking
from gateway.asking.question import Answer, Path, Question, Release, Sources, Unsupported
from gateway.asking.release import Outlet
from gateway.asking.retrieval import Abstention, Found, Policy, Retriever
from gateway.asking.side_questions import SideQuestions
from gateway.asking.stages import BudgetSpentError, Stages, Tracer, remaining
from gateway.asking.support import Embedder, Support
from gateway.asking.writing import Writing
from gateway.generation import FinishReason, Generated, Receipt, TextDelta, Usage
from gateway.generator import Generator
from gateway.limits.gate import answered_by
from gateway.names import AUTO, canonical
from gateway.policy.policing import OF_PROMPT
from gateway.routing import NO_FALLBACK, Route, Router
from services.chassis.errors import Failure, Reason


class Asker:
    """Answers questions, each through the same stages in the same order."""

    def __init__(
        self,
        router: Router,
        retriever: Retriever,
        generator: Generator,
        embedder: Embedder,
        answerer: Answerer,
        clock: Callable[[], float],
        now: Callable[[], float],
        new_id: Callable[[], str],
        trace: Tracer,
    ) -> None:
        self._router = router
        self._generator = generator
        self._embedder = embedder
        self._answerer = answerer
        side = SideQuestions(router, answerer)
        self._looking = Looking(retriever, side)
        self._writing = Writing(generator, embedder, answerer, router, side)
        self._clock = clock
        self._now = now
        self._new_id = new_id
        self._trace = trace

    async def ask(self, question: Question) -> AsyncGenerator[Sources | TextDelta | Answer]:
        """Sources, then text as it leaves, then the answer's end.

        Raises QUESTION_EMPTY, FIELD_INVALID, MODEL_NOT_FOUND, COLLECTION_NOT_FOUND,
        PROMPT_TOO_LONG, VERSION_MISMATCH, PEER_UNAVAILABLE naming the service, CONTENT_REFUSED and POLICY_UNAVAILABLE.
        """
        _check(question)
        # Without replacements the owner's is none either; one that the request itself names is what it asks for.
        fallback = question.wish.fallback or ("" if question.fallbacks else NO_FALLBACK)
        request_id = question.wish.request_id or self._new_id()
        wish = replace(question.wish, request_id=request_id, fallback=fallback)
        stages = Stages(self._clock, remaining, self._trace, fallbacks=question.fallbacks)
        question = await self._admitted(replace(question, wish=wish), stages)
        answering = self._from_sources if question.scope.collections else self._plainly
        async with aclosing(answering(question, stages)) as events:
            async for event in events:
                yield event

    async def _admitted(self, question: Question, stages: Stages) -> Question:
        """The question as a model may hear it."""
        most_seconds = self._answerer.prompt_verdict_seconds
        if most_seconds is None:
            return question
        messages = prompt.plain(question.text, question.history, question.instructions)
        async with stages.stage(OF_PROMPT) as stage:
            stage.budget_seconds = most_seconds
            stage.input_size = sum(len(message.content) for message in messages)
            text = await self._answerer.admitted_text(question.text, messages, question.wish)
            stage.decision = "the prompt as it is" if text == question.text else "another prompt"
        admitted = replace(question, text=text)
        _check(admitted)
        return admitted

    async def _plainly(self, question: Question, stages: Stages) -> AsyncGenerator[Sources | TextDelta | Answer]:
        """An answer without retrieval: nothing is added, nothing is held back."""
        route = await self._resolved(question, question.text, stages)
        messages = prompt.plain(question.text, question.history, question.instructions)
        told = Sources(())
        yield told
        async with aclosing(self._answerer.answer(messages, question.wish, route, stages.watch)) as parts:
            async for part in parts:
                if isinstance(part, TextDelta):
                    yield part
                else:
                    await self._answerer.record(part)
                    yield ending.ended(question, Answer(part, (), (), told), stages)

    async def _from_sources(self, question: Question, stages: Stages) -> AsyncGenerator[Sources | TextDelta | Answer]:
        # Not awaited before the answer is there: what it loads may take longer than all that stands before the first token.
        async with beside.aside() as aside:
            route, looked = await self._looked(question, stages, aside)
            if looked.spoken is not None:
                spoken = looked.spoken
                told = Sources(spoken.sources, spoken.path, None, looked.rewrite, collections=spoken.collections)
                events = self._said(question, route, told, spoken.pieces, stages)
            else:
                found = looked.found
                abstention = _decided(question.abstention, found, stages)
                told = Sources(found.sources, Path.PASSAGES, abstention, looked.rewrite, collections=found.collections)
                if abstention is not None and abstention.abstained:
                    shaped = question.wish.shape is not None
                    pieces = () if shaped else (abstention.says,)
                    events = self._said(question, route, told, pieces, stages)
                else:
                    events = self._writing.written(question, route, told, stages)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def _looked(self, question: Question, stages: Stages, aside: beside.Aside) -> tuple[Route, Looked]:
        """Where the question goes, and what was looked for meanwhile."""
        # A name means the same whatever is asked; what auto means for half a question is anybody's guess.
        if canonical(question.wish.model) == AUTO and rewriting.reason_to(question.text, question.history):
            rewrite = await self._looking.rewritten(question, stages)
            asked = rewrite.question if rewrite else question.text
            looking = self._looking.looked_for(question, rewrite, stages)
        else:
            asked, looking = question.text, self._looking.looked(question, stages)
        return await beside.both(self._routed(question, asked, stages, aside), looking)

    async def _routed(self, question: Question, asked: str, stages: Stages, aside: beside.Aside) -> Route:
        route = await self._resolved(question, asked, stages)
        if route.version:
            aside.start(self._generator.prepare(route.version))
        return route

    async def _resolved(self, question: Question, asked: str, stages: Stages) -> Route:
        try:
            async with stages.stage("resolve") as stage:
                wish = question.wish
                route = await self._router.resolve(wish.model, wish.sticky_key, asked, wish.fallback)
                stage.decision = route.resolved
                await answered_by(route.model)
        except BudgetSpentError as spent:
            raise Failure(Reason.DEADLINE_EXCEEDED) from spent
        return route

    async def _said(
        self, question: Question, route: Route, told: Sources, pieces: Sequence[str], stages: Stages
    ) -> AsyncGenerator[Sources | TextDelta | Answer]:
        """An answer that no model made, with a receipt that names none."""
        pieces, judged = await self._answerer.admitted_answer(pieces, question.wish, stages.watch)
        yield told
        for piece in pieces:
            yield TextDelta(piece)
        basis = told.basis
        outlet = Outlet(None, Support(told.sources, self._embedder, lambda _: None), opening="".join(pieces))
        receipt = Receipt(
            request_id=question.wish.request_id,
            requested_model=route.requested,
            resolved_model=route.resolved,
            sources=basis.sources,
            complete_time_seconds=self._now(),
            collections=basis.collections,
        )
        end = Generated(
            FinishReason.STOP, Usage(), stages.watch.timings, receipt, fallbacks=(*route.fallbacks, *judged)
        )
        checked = outlet.unchecked(basis.sources)
        await self._answerer.record(end)
        yield ending.ended(question, ending.answer(end, checked, told, ""), stages)


def _check(question: Question) -> None:
    if not question.text.strip():
        raise Failure(Reason.QUESTION_EMPTY, field="question")
    if (question.wish.sampling.n or 1) > 1:
        problem = "must be 1 for a question with sources, whose citations stand in one text; ask again, or chat"
        raise Failure(Reason.FIELD_INVALID, field="sampling.n", problem=problem)
    withheld = question.unsupported is Unsupported.WITHHOLD
    if withheld and (question.release is not Release.SENTENCE or question.wish.shape is not None):
        problem = "withholding needs release SENTENCE and no shape: what has left cannot be taken back"
        raise Failure(Reason.FIELD_INVALID, field="unsupported", problem=problem)


def _decided(wanted: Policy, found: Found, stages: Stages) -> Abstention | None:
    with stages.moment("decide") as stage:
        abstention = abstaining.decided(wanted, found.answerability, found.sources)
        stage.input_size = len(found.sources)
        stage.decision = _decision(abstention)
    if abstention is None and wanted is not Policy.OFF:
        stages.note("decide", abstaining.UNDECIDED, abstaining.WHY_UNDECIDED)
    return abstention


def _decision(abstention: Abstention | None) -> str:
    if abstention is None:
        return "answered: the search tells nothing of it"
    score = f"{abstention.score:.2f} of {abstention.threshold:.2f}"
    done = "abstained" if abstention.abstained else "hedged" if abstention.hedged else "answered"
    return f"{done}: {score}, policy {abstention.policy.value}"
