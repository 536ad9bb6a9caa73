"""Outermost: gives the call its ids and its deadline, so that every later layer can name it."""

import re
import secrets
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

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Fill in the ids and the deadline, and tell the caller its correlation id."""
        call.started = self._clock()
        call.metadata = metadata = dict(call.rpc.invocation_metadata() or ())
        given = metadata.get(CORRELATION_KEY)
        if isinstance(given, str) and _CORRELATION.match(given):
            call.correlation_id = given
        else:
            call.correlation_id = secrets.token_hex(16)
        trace = metadata.get("traceparent")
        if isinstance(trace, str) and _TRACEPARENT.match(trace):
            call.traceparent = trace
        else:
            call.traceparent = new_traceparent()
        call.deadline = self._deadline(call)
        call.rpc.set_trailing_metadata(((CORRELATION_KEY, call.correlation_id),))
        await proceed(call)

    def _deadline(self, call: Call) -> float | None:
        """The caller's deadline, shortened to what the method allows, imposed where it gave none."""
        policy = call.method.policy
        asked = call.rpc.time_remaining()
        if policy.long_lived:
            return None if asked is None else call.started + asked
        default, longest = self._limits(policy, call.method.streams)
        return call.started + (min(default, longest) if asked is None else min(asked, longest))

    def _limits(self, policy: MethodPolicy, streams: bool) -> tuple[float, float]:
        settings = self._settings
        default = settings.max_stream_seconds if streams else settings.default_unary_seconds
        longest = settings.max_stream_seconds if streams else settings.max_unary_seconds
        return policy.default_seconds or policy.max_seconds or default, policy.max_seconds or longest


def new_traceparent() -> str:
    """A new W3C trace context, not sampled: the ids alone let logs of several services be joined."""
    random = secrets.token_hex(24)
    return f"00-{random[:32]}-{random[32:]}-00"
