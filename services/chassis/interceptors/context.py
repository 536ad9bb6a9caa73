"""Outermost: gives the call its ids and its deadline, so that every later layer can name it."""

import random
import re
import time
from collections.abc import Callable

from services.chassis.config import ServiceSettings
from services.chassis.interceptors.call import Call, MethodPolicy, Proceed
from services.chassis.status import CORRELATION_KEY

_CORRELATION = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class ContextLayer:
    """Correlation id and trace context from the caller (if well-formed) or new ones; deadline."""

    def __init__(self, settings: ServiceSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        # Ids need to differ, not to be unguessable; the system's generator would cost a system call each.
        self._random = random.Random()

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Fill in the ids and the deadline; a caller that named no correlation id is told the one it got."""
        call.started = self._clock()
        call.metadata = metadata = dict(call.rpc.invocation_metadata() or ())
        trace = metadata.get("traceparent")
        if not isinstance(trace, str) or not _TRACEPARENT.match(trace):
            trace = new_traceparent(self._random)
            call.traced = False
        call.traceparent = trace
        given = metadata.get(CORRELATION_KEY)
        if isinstance(given, str) and _CORRELATION.match(given):
            call.correlation_id = given
        else:
            call.correlation_id = trace[3:35]
            call.rpc.set_trailing_metadata(((CORRELATION_KEY, call.correlation_id),))
        self._set_deadline(call, call.rpc.time_remaining())
        await proceed(call)

    def _set_deadline(self, call: Call, asked: float | None) -> None:
        """The caller's deadline where the method allows it, else one that we impose."""
        policy = call.method.policy
        if policy.long_lived:
            call.deadline = None if asked is None else call.started + asked
            return
        default, longest = self._limits(policy, call.method.streams)
        if asked is not None and asked <= longest:
            call.deadline = call.started + asked
            call.imposed = not call.method.over_grpc
        else:
            call.deadline = call.started + (min(default, longest) if asked is None else longest)
            call.imposed = True

    def _limits(self, policy: MethodPolicy, streams: bool) -> tuple[float, float]:
        settings = self._settings
        default = settings.max_stream_seconds if streams else settings.default_unary_seconds
        longest = settings.max_stream_seconds if streams else settings.max_unary_seconds
        return policy.default_seconds or policy.max_seconds or default, policy.max_seconds or longest


def new_traceparent(source: random.Random) -> str:
    """A new W3C trace context, not sampled: the ids alone let logs of several services be joined."""
    ids = f"{source.getrandbits(192):048x}"
    return f"00-{ids[:32]}-{ids[32:]}-00"
