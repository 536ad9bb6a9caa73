"""Metrics and traces behind one small face, so that a service never imports either library.

Metrics follow OpenTelemetry's RPC conventions (``rpc.server.call.duration``) in
Prometheus' spelling.  Traces go to an OTLP endpoint when one is set; without one the
trace context is still passed on, which costs nothing and lets logs be joined.
Invariant: every label has a bounded set of values (see :class:`Bounded`).
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from services.chassis.config import ServiceSettings, split_address
from services.chassis.context import current_or_none, serving
from services.chassis.durations import CallDurations

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OpenTelemetrySpan

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_OTHER = "other"


class Bounded:
    """Admits the first ``limit`` values of a label; all later ones become ``other``.

    For labels whose values users choose (an adapter, a model): without the cap every
    new name would be a new time series.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value itself, or ``other``."""
        if value in self._seen:
            return value
        if len(self._seen) < self._limit:
            self._seen.add(value)
            return value
        return _OTHER


class Telemetry:
    """One registry of metrics and one tracer, of one server."""

    def __init__(self, settings: ServiceSettings, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.call_durations = CallDurations()
        self.registry.register(self.call_durations)
        self.calls_in_flight = self.gauge("rpc_server_calls_in_flight", "Calls being served now.")
        self.ready = self.gauge("trivium_ready", "1 while the service answers SERVING.")
        self._endpoint = settings.otlp_endpoint
        self._tracer: Any = None
        self._provider: Any = None

    @property
    def tracing(self) -> bool:
        """Whether spans are recorded."""
        return self._tracer is not None

    def histogram(
        self, name: str, about: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        """A histogram of this server.  Label values must be bounded."""
        return Histogram(name, about, labels, registry=self.registry, buckets=buckets)

    def counter(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Counter:
        """A counter of this server.  Label values must be bounded."""
        return Counter(name, about, labels, registry=self.registry)

    def gauge(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A gauge of this server.  Label values must be bounded."""
        return Gauge(name, about, labels, registry=self.registry)

    def start_tracing(self) -> None:
        """Begin to export spans, if an endpoint is set."""
        if not self._endpoint:
            return
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = OTLPSpanExporter(endpoint=self._endpoint, insecure=not self._endpoint.startswith("https"))
        self.trace_with(
            TracerProvider(resource=Resource.create({"service.name": f"trivium-{self.service}"})),
            BatchSpanProcessor(exporter),
        )

    def trace_with(self, provider: Any, processor: Any) -> None:
        """Record spans through an OpenTelemetry provider and processor."""
        provider.add_span_processor(processor)
        self._provider = provider
        self._tracer = provider.get_tracer("trivium")

    def stop_tracing(self) -> None:
        """Export what is left and stop.  Blocks; called in a thread."""
        if self._provider is not None:
            self._provider.shutdown()

    def start_server_span(self, method: str, traceparent: str) -> "Span":
        """Begin the span of a served call under the caller's context."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
        attributes = {"rpc.system.name": "grpc", "rpc.method": method.strip("/")}
        span = self._tracer.start_span(method.strip("/"), context=parent, kind=SpanKind.SERVER, attributes=attributes)
        return Span(span)

    @contextmanager
    def stage_span(self, name: str, seconds: float = 0.0) -> Iterator["Span | None"]:
        """A span of one stage below the current call's, whose outgoing calls are its children; None where nothing is recorded.

        A stage that a peer timed began so many ``seconds`` ago.  The block must end in the task that began it.
        """
        request = current_or_none()
        if self._tracer is None or request is None:
            yield None
            return
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": request.traceparent})
        began = time.time_ns() - round(seconds * 1e9)
        span = Span(self._tracer.start_span(name, context=parent, start_time=began))
        status = "INTERNAL"
        try:
            with serving(replace(request, traceparent=span.traceparent)):
                yield span
            status = "OK"
        finally:
            span.end(status)

    def serve_metrics(self, address: str, settings: ServiceSettings) -> "MetricsEndpoint":
        """Serve the registry over HTTP (HTTPS with mutual TLS where certificates are set)."""
        host, port = split_address(address)
        tls: dict[str, Any] = {}
        if settings.tls_cert_file:
            tls = {
                "certfile": str(settings.tls_cert_file),
                "keyfile": str(settings.tls_key_file),
                "client_cafile": str(settings.tls_ca_file),
                "client_auth_required": True,
            }
        server, thread = start_http_server(port, addr=host, registry=self.registry, **tls)
        return MetricsEndpoint(f"{host}:{server.server_port}", server, thread)


@dataclass(slots=True)
class Span:
    """A span of a served call, as the telemetry layer needs it."""

    span: "OpenTelemetrySpan"

    @property
    def traceparent(self) -> str:
        """The W3C context that peers continue."""
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def set(self, name: str, value: str | int | float) -> None:
        """Add an attribute; never a text of the caller's."""
        self.span.set_attribute(name, value)

    def end(self, status: str) -> None:
        """Finish the span with the status that the caller got."""
        from opentelemetry.trace import StatusCode

        self.span.set_attribute("rpc.response.status_code", status)
        if status in ("UNKNOWN", "INTERNAL", "DATA_LOSS", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED"):
            self.span.set_status(StatusCode.ERROR, status)
        self.span.end()


@dataclass(frozen=True, slots=True)
class MetricsEndpoint:
    """The running HTTP endpoint and its real address."""

    address: str
    server: Any
    thread: Any

    def close(self) -> None:
        """Stop serving.  Blocks; called in a thread."""
        stopping = threading.Thread(target=self.server.shutdown)
        stopping.start()
        # The server looks for its stop flag when a connection comes, or else twice a second.
        with suppress(OSError):
            socket.create_connection(self.server.server_address[:2], timeout=1).close()
        stopping.join()
        self.server.server_close()
        self.thread.join(timeout=5)
