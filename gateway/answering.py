"""The last stage of every request, with sources or without: generate, check, record.

Invariant: everything that names the version which answers is compared with the route as it
comes, and nothing leaves here between a mismatch and the failure that it ends in.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from gateway.generation import (
    Generated,
    GenerationRequest,
    Generator,
    Message,
    Opening,
    Sampling,
    Shape,
    SourceSpan,
    TextDelta,
)
from gateway.receipts import Recorder, attested, seeded
from gateway.routing import Route
from gateway.stages import Stopwatch
from services.chassis.context import current
from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of any generation, whatever its prompt.  An empty ``request_id`` means none was given."""

    model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    shape: Shape | None = None
    request_id: str = ""


class Answerer:
    """Streams a generation for a route and makes its receipt."""

    def __init__(self, generator: Generator, recorder: Recorder) -> None:
        self._generator = generator
        self._recorder = recorder

    async def answer(
        self,
        prompt: Sequence[Message] | str,
        wish: Wish,
        route: Route,
        watch: Stopwatch,
        sources: tuple[SourceSpan, ...] = (),
    ) -> AsyncGenerator[TextDelta | Generated]:
        """Text as it comes, then the attested end with the stages of ``watch`` before the generator's own.

        The receipt is not recorded yet: see :meth:`record`.  Closing the iterator aborts
        the work.  Raises VERSION_MISMATCH and whatever the generator refuses with.
        """
        request = GenerationRequest(
            prompt=prompt,
            request_id=wish.request_id,
            version=route.version,
            base=route.base,
            requested_model=route.requested,
            sampling=seeded(wish.sampling, wish.request_id),
            shape=wish.shape,
            sources=sources,
        )
        async with aclosing(self._generator.generate(request)) as parts:
            async for part in parts:
                if isinstance(part, TextDelta):
                    # The last token of a turn has no text.
                    if part.text or part.logprobs:
                        yield part
                    continue
                # A mismatch leaves the block, which ends the engine's work.
                receipt = attested(part.receipt, route, wish.request_id, sources)
                if isinstance(part, Opening):
                    continue
                watch.add(*part.timings)
                yield replace(part, receipt=receipt, timings=watch.timings)
                return
        # Text without a receipt is no answer.
        raise Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="generator")

    async def record(self, end: Generated) -> None:
        """Make the receipt durable: at access, or on this gateway's disk until access takes it."""
        caller = current()
        await self._recorder.record(caller.tenant_id, caller.principal_id, caller.method, end.receipt)
