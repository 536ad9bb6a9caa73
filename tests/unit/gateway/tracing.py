"""Tracers of tests: one whose spans can be looked at, and one that keeps none."""

from contextlib import nullcontext
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis.config import ServiceSettings
from services.chassis.telemetry import Telemetry


def untraced(name: str, seconds: float = 0.0) -> nullcontext[None]:
    """No span."""
    return nullcontext()


class Trace:
    """A tracer as the gateway's own, whose spans can be looked at."""

    def __init__(self, tmp_path: Path) -> None:
        self._exporter = InMemorySpanExporter()
        self.telemetry = Telemetry(ServiceSettings(data_dir=tmp_path), "gateway")
        self.telemetry.trace_with(TracerProvider(), SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended."""
        return self._exporter.get_finished_spans()

    def of(self, stage: str) -> tuple[object, object]:
        """Input size and decision of the one span of a stage."""
        (span,) = [it for it in self.spans if it.name == stage]
        told = dict(span.attributes or {})
        return told["trivium.stage.input_size"], told["trivium.stage.decision"]

    def seconds(self, stage: str) -> float:
        """How long the one span of a stage lasts."""
        (span,) = [it for it in self.spans if it.name == stage]
        assert span.end_time is not None
        assert span.start_time is not None
        return (span.end_time - span.start_time) / 1e9

    def says(self, *words: str) -> list[str]:
        """What is said in the spans and holds one of the words, which are in small letters."""
        said = [f"{span.name} {dict(span.attributes or {})} {span.events}".casefold() for span in self.spans]
        return [one for one in said if any(word in one for word in words)]
