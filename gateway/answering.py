"""The last stage of every request, with sources or without: generate, check, record.

Invariant: everything that names the version which answers is compared with the route as it
comes, and nothing leaves here between a mismatch and the failure that it ends in.  What an
answer used that its caller gave up, or that a content policy refused, is recorded all the same, as far as the engine told it;
so is what it used that broke off when part of its text had left, but for one of other weights.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from gateway.begun import Begun
from gateway.generation import (
    NO_BASIS,
    Basis,
    Fallback,
    Generated,
    Message,
    Opening,
    Prompt,
    Prompts,
    Receipt,
    Sampling,
    Several,
    Shape,
    TextDelta,
    ToolUse,
)
from gateway.generator import GenerationRequest, Generator
from gateway.leaving import Leaving
from gateway.limits.gate import answered_by, used
from gateway.names import model_of
from gateway.policy.policing import OF_ANSWER, Answers, Policing
from gateway.receipts import Recorder, Waiting, attested, seeded
from gateway.replicas.affinity import affinity
from gateway.routing import Route, Router, falls_back
from gateway.side_by_side import SideBySide
from gateway.stages import Stopwatch
from gateway.under_way import Place, UnderWay
from services.chassis.context import current
from services.chassis.errors import Failure, Reason

# What says that one of several prompts cannot be answered, when others have been.
_PROMPT_AT_FAULT = frozenset({Reason.FIELD_INVALID, Reason.PROMPT_TOO_LONG})


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of any generation, whatever its prompt.  An empty ``request_id`` means none was given.

    ``sticky_key`` is whoever is to stay with one version of an alias that has canaries; ``fallback`` the model that answers
    where the one that is named cannot, instead of the one that its owner says.
    """

    model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    shape: Shape | None = None
    request_id: str = ""
    sticky_key: str = ""
    fallback: str = ""
    tools: ToolUse | None = None


class Answerer:
    """Streams a generation for a route and makes its receipt.

    ``under_way`` keeps what has left of answers for the case that this process is killed; without it nothing does.
    """

    def __init__(
        self,
        generator: Generator,
        recorder: Recorder,
        router: Router | None = None,
        policing: Policing | None = None,
        under_way: UnderWay | None = None,
    ) -> None:
        self._generator = generator
        self._recorder = recorder
        self._router = router
        self._policing = policing
        self._under_way = under_way

    async def admitted(self, prompt: Prompts, wish: Wish) -> Prompts:
        """What a caller wrote, as a model may hear it.  Raises CONTENT_REFUSED, POLICY_UNAVAILABLE, FIELD_INVALID."""
        if self._policing is None:
            return prompt
        return await self._policing.admitted(prompt, wish.request_id, wish.model, wish.tools)

    @property
    def prompt_verdict_seconds(self) -> float | None:
        """The most that the content policy in force takes for a prompt; None where it judges none."""
        return None if self._policing is None else self._policing.prompt_seconds

    async def admitted_text(self, text: str, prompt: Sequence[Message], wish: Wish) -> str:
        """The same for the ``text`` that ends a prompt."""
        if self._policing is None:
            return text
        replaced = await self._policing.replacement(prompt, wish.request_id, wish.model, wish.tools)
        return text if replaced is None else replaced

    async def admitted_answer(
        self, pieces: Sequence[str], wish: Wish, watch: Stopwatch
    ) -> tuple[Sequence[str], tuple[Fallback, ...]]:
        """An answer that no model makes now, as it may leave, and what of it is to be told.  Raises as :meth:`admitted`."""
        if self._policing is None:
            return pieces, ()
        return await self._policing.said(pieces, wish.request_id, wish.model, watch)

    def answer(
        self,
        prompt: Prompts,
        wish: Wish,
        route: Route,
        watch: Stopwatch,
        basis: Basis = NO_BASIS,
        leaving: Leaving | None = None,
    ) -> AsyncGenerator[TextDelta | Generated]:
        """Text as it comes, then the attested end with the stages of ``watch`` before the generator's own.

        Where the route's version cannot answer and it says what can, that one does, before anything was told; the end says
        so.  The receipt is not recorded yet: see :meth:`record`.  Who holds back some of the text says by ``leaving`` when the
        first of it leaves: until then it costs nothing if it breaks off.  Closing the iterator aborts the work.  Raises
        VERSION_MISMATCH and whatever the generator refuses with; where the tenant has a content policy, CONTENT_REFUSED
        and POLICY_UNAVAILABLE, also in the middle of the text.
        """
        answers = None if self._policing is None else self._policing.answers(wish.request_id, wish.model, watch)
        # Who holds it behind the policy is the last.
        held = leaving or (None if answers is None else answers.leaving)
        parts = self._answered(prompt, wish, route, watch, basis, held)
        return parts if answers is None else self._judged(parts, answers, watch)

    async def _judged(
        self, parts: AsyncGenerator[TextDelta | Generated], answers: Answers, watch: Stopwatch
    ) -> AsyncGenerator[TextDelta | Generated]:
        """The same as far as the content policy lets it leave."""
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, TextDelta):
                    async for piece in answers.push(part):
                        yield piece
                    continue
                async with self.accounted(part):
                    async for piece in answers.finish():
                        yield piece
                # Verdicts on its last words among them.
                verdicts = [it for it in watch.timings if it.stage == OF_ANSWER]
                timings = (*(it for it in part.timings if it.stage != OF_ANSWER), *verdicts)
                yield replace(part, timings=timings, fallbacks=(*part.fallbacks, *answers.told))

    async def _answered(
        self,
        prompt: Prompts,
        wish: Wish,
        route: Route,
        watch: Stopwatch,
        basis: Basis,
        leaving: Leaving | None,
    ) -> AsyncGenerator[TextDelta | Generated]:
        told = False
        while True:
            try:
                async with aclosing(self._once(prompt, wish, route, watch, basis, leaving)) as parts:
                    async for part in parts:
                        told = True
                        yield part
                return
            except Failure as failure:
                if told or self._router is None or not falls_back(failure, route):
                    raise
                with watch.stage("resolve"):
                    route = await self._router.fall_back(route, failure, wish.sticky_key)

    async def _once(
        self,
        prompt: Prompts,
        wish: Wish,
        route: Route,
        watch: Stopwatch,
        basis: Basis,
        leaving: Leaving | None,
    ) -> AsyncGenerator[TextDelta | Generated]:
        begun = Begun(self._place, leaving)

        def begin(prompt: Prompt, sampling: Sampling, watch: Stopwatch) -> AsyncGenerator[TextDelta | Generated]:
            return self._one(prompt, replace(wish, sampling=sampling), route, watch, basis, begun)

        await answered_by(route.model)
        sampling = seeded(wish.sampling, wish.request_id)
        if isinstance(prompt, Several):
            answers = SideBySide(lambda one, drawn: begin(one, drawn, watch.forked()), prompt, sampling).parts()
        else:
            answers = begin(prompt, sampling, watch)
        try:
            async with aclosing(answers) as parts:
                async for part in parts:
                    if isinstance(part, Generated):
                        begun.ends(part.receipt)
                    else:
                        begun.passes()
                    yield part
        except (asyncio.CancelledError, GeneratorExit):
            self._charge(begun)
            raise
        except Failure as failure:
            at_fault = _PROMPT_AT_FAULT if isinstance(prompt, Several) else frozenset()
            if failure.reason in at_fault or begun.is_charged(failure):
                self._charge(begun)
            raise
        finally:
            # What it was kept for is recorded by now, or is not to be.
            begun.left()

    async def _one(
        self,
        prompt: Prompt,
        wish: Wish,
        route: Route,
        watch: Stopwatch,
        basis: Basis,
        begun: Begun,
    ) -> AsyncGenerator[TextDelta | Generated]:
        request = GenerationRequest(
            prompt=prompt,
            request_id=wish.request_id,
            version=route.version,
            base=route.base,
            requested_model=route.requested,
            sampling=wish.sampling,
            shape=wish.shape,
            sources=basis.sources,
            affinity=affinity(prompt, wish.sticky_key, route.version),
            tools=wish.tools,
        )
        async with aclosing(self._attested(request, route, basis, begun)) as parts:
            async for part in parts:
                if isinstance(part, TextDelta):
                    yield part
                else:
                    watch.add(*part.timings)
                    yield replace(part, timings=watch.timings, fallbacks=(*route.fallbacks, *part.fallbacks))

    async def _attested(
        self, request: GenerationRequest, route: Route, basis: Basis, begun: Begun
    ) -> AsyncGenerator[TextDelta | Generated]:
        one = begun.another()
        async with aclosing(self._generator.generate(request)) as parts:
            async for part in parts:
                if isinstance(part, TextDelta):
                    one.completion_tokens += part.tokens
                    # The last token of a turn has no text.
                    if part.text or part.logprobs or part.calls:
                        yield part
                    continue
                # A mismatch leaves the block, which ends the engine's work.
                receipt = attested(part.receipt, route, request.request_id, basis)
                if isinstance(part, Opening):
                    one.opening = receipt
                    begun.opened()
                    # A base has more names than one; the engine says which it is.
                    await answered_by(model_of(receipt.resolved_model))
                    continue
                one.opening, one.completion_tokens = receipt, part.usage.completion_tokens
                yield replace(part, receipt=receipt)
                return
        # Text without a receipt is no answer.
        raise Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="generator")

    def _place(self, receipt: Receipt) -> Place | None:
        return None if self._under_way is None else self._under_way.enter(_waiting(receipt))

    def _charge(self, begun: Begun) -> None:
        """Record what it used, under an id beside its request's."""
        receipt, place = begun.used(), begun.place
        if receipt is None:
            if place is not None:
                # It has ended, and its record may be in memory alone: who waited for that has gone.
                begun.place = None
                self._recorder.settled().add_done_callback(lambda _: place.leave())
            return
        if place is None:
            of = _waiting(receipt)
            self._recorder.record_cancelled(of.tenant, of.principal, of.method, receipt, of.project)
            return
        # As it stands there, to the byte: a process that finds both records one.
        begun.holds(receipt)
        begun.place = None
        used(receipt)
        self._recorder.enter(place.waiting).add_done_callback(lambda _: place.leave())

    @asynccontextmanager
    async def accounted(self, end: Generated) -> AsyncIterator[None]:
        """Around what an answer still needs when its end has come: whatever that ends in, what it used is recorded.

        What is recorded of an answer from its end on is this, and whoever leaves the block as it should does it.
        """
        try:
            yield
        except Failure:
            await self.record(end)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            # Under its own id, as it stands in its place: nobody is left to wait until it is durable.
            used(end.receipt)
            self._recorder.enter(_waiting(end.receipt))
            raise

    async def record(self, end: Generated) -> None:
        """Make the receipt durable: at access, or on this gateway's disk until access takes it."""
        of = _waiting(end.receipt)
        await self._recorder.record(of.tenant, of.principal, of.method, of.receipt, of.project)


def _waiting(receipt: Receipt) -> Waiting:
    caller = current()
    unattended = bool(caller.actor)
    return Waiting(caller.tenant_id, caller.principal_id, caller.method, receipt, caller.project, unattended)
