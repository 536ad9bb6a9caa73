"""Nothing works longer than somebody waits: expired calls are refused, late ones are stopped.

gRPC itself cancels a call whose caller's deadline passes, so a timer is set only for a
deadline that we impose, and for a caller's own where its transport keeps none.
"""

import asyncio
import time
from collections.abc import Callable

from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import Call, Proceed


class DeadlineLayer:
    """Keeps the deadline that the context layer computed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Refuse expired work, cancel work that outlives an imposed deadline."""
        if call.deadline is None:
            await proceed(call)
            return
        remaining = call.deadline - self._clock()
        if remaining <= 0:
            raise Failure(Reason.DEADLINE_EXCEEDED)
        if not call.imposed:
            await proceed(call)
            return
        call.limit = limit = asyncio.timeout(remaining)
        try:
            async with limit:
                await proceed(call)
        except TimeoutError:
            if limit.expired():
                raise Failure(Reason.DEADLINE_EXCEEDED) from None
            raise
