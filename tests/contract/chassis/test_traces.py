"""A trace that begins at the caller continues through every hop."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis.context import current
from services.chassis.errors import Failure, Reason
from services.chassis.runtime import Runtime
from tests.contract.chassis.echo import AUTHORISED, BOTH, UNARY, refused, send, served
from tests.contract.chassis.test_peers import Front

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
METADATA = (*AUTHORISED, ("traceparent", f"00-{TRACE}-{PARENT}-01"))


async def test_spans_of_two_services_join_the_callers_trace(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    front = Front()

    def traced(runtime: Runtime) -> None:
        runtime.metrics.trace_with(TracerProvider(), SimpleSpanProcessor(exporter))

    def traced_front(runtime: Runtime) -> None:
        traced(runtime)
        front.keep(runtime)

    seen = []

    async def act(_: Any) -> None:
        seen.append(current().traceparent)

    async with AsyncExitStack() as stack:
        back = await stack.enter_async_context(served(tmp_path / "back", act, on_runtime=traced))
        addresses: dict[str, Any] = {"embedder_address": back.listen, "generator_address": back.listen}
        server = await stack.enter_async_context(
            served(tmp_path / "front", front, on_runtime=traced_front, **addresses)
        )
        await send(server, UNARY, metadata=METADATA)
    spans = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {TRACE}
    (root,) = [span for span in spans if span.parent and f"{span.parent.span_id:016x}" == PARENT]
    assert root.context is not None
    children = [span for span in spans if span.parent and span.parent.span_id == root.context.span_id]
    assert len(children) == 2
    assert all(traceparent.startswith(f"00-{TRACE}-") for traceparent in seen)


async def test_a_span_tells_the_status_and_no_payload(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()

    async def act(_: Any) -> None:
        raise Failure(Reason.MODEL_NOT_FOUND, name="rosy", nearest="rose")

    def traced(runtime: Runtime) -> None:
        runtime.metrics.trace_with(TracerProvider(), SimpleSpanProcessor(exporter))

    async with served(tmp_path, act, on_runtime=traced) as server:
        await refused(server, BOTH)
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": BOTH.path.strip("/"),
        "rpc.response.status_code": "NOT_FOUND",
    }
