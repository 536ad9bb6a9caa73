"""Measures every call: duration and outcome as metrics, a span, a log line when slow or failed.

Outside the errors layer, so that it sees the status that the caller got.  Labels
are bounded: service, method and status come from the protos; never a tenant, a
model or a text.
"""

import time
from collections.abc import Callable

from services.chassis.config import ServiceSettings
from services.chassis.interceptors.call import Call, Proceed
from services.chassis.logs import Log
from services.chassis.telemetry import Telemetry

_OUR_FAULT = {"UNKNOWN", "INTERNAL", "DATA_LOSS"}


class TelemetryLayer:
    """One observation a call; nothing a message."""

    def __init__(
        self,
        settings: ServiceSettings,
        telemetry: Telemetry,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slow_seconds = settings.slow_call_seconds
        self._telemetry = telemetry
        self._log = log
        self._clock = clock

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Observe the call whatever becomes of it."""
        telemetry = self._telemetry
        span = None
        if telemetry.tracing:
            span = telemetry.start_server_span(call.method.path, call.traceparent if call.traced else "")
            call.traceparent = span.traceparent
        try:
            await proceed(call)
        finally:
            seconds = self._clock() - call.started
            observe = call.method.metrics.get(call.status)
            if observe is None:
                observe = telemetry.call_durations.observer(call.method.path, call.status)
                call.method.metrics[call.status] = observe
            observe(seconds)
            if span is not None:
                span.end(call.status)
            if call.status != "OK" or (seconds >= self._slow_seconds and not call.method.streams):
                self._say(call, seconds)

    def _say(self, call: Call, seconds: float) -> None:
        tenant = call.identity.tenant_id if call.identity else ""
        say = self._log.warning if call.status in _OUR_FAULT else self._log.info
        say(
            "call_finished",
            method=call.method.path,
            status=call.status,
            seconds=round(seconds, 4),
            correlation_id=call.correlation_id,
            trace_id=call.traceparent[3:35],
            tenant_id=tenant,
        )
