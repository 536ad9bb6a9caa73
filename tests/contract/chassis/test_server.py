"""A server's life: ports, readiness, introspection, drain, and what stops it."""

import asyncio
import json
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from trivium.embedder.v1.embedder_pb2 import EmbedResponse
from trivium.embedder.v1.embedder_pb2_grpc import EmbedderServiceServicer, add_EmbedderServiceServicer_to_server

from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import MethodPolicy
from services.chassis.interceptors.dispatch import Dispatcher
from services.chassis.refused_streams import streamed
from services.chassis.runtime import Runtime
from services.chassis.server import Registration, running
from tests.contract.chassis.echo import (
    BOTH,
    EMBEDDER,
    UNARY,
    UP,
    WATCH,
    Held,
    KnownKeys,
    finish,
    refusal,
    refused,
    send,
    served,
    settings_in,
    start,
)
from tests.harness.timeouts import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[3]
States = health_pb2.HealthCheckResponse


async def health_of(address: str, service: str = "") -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def test_health_needs_no_credential_and_names_each_service(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for address in (server.listen, server.admin_listen):
            assert await health_of(address) == States.SERVING
            assert await health_of(address, EMBEDDER) == States.SERVING
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await health_of(address, "nobody")
            assert error.value.code() == grpc.StatusCode.NOT_FOUND


async def test_health_follows_the_model_and_watchers_see_it(tmp_path: Path) -> None:
    def not_yet(runtime: Runtime) -> None:
        runtime.health.set(False, "the model is loading")

    async with served(tmp_path, on_runtime=not_yet) as server, grpc.aio.insecure_channel(server.listen) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=EMBEDDER))
        assert (await watch.read()).status == States.NOT_SERVING
        await server.runtime.health.set(True)
        assert (await watch.read()).status == States.SERVING
        watch.cancel()


async def test_a_draining_server_says_so_and_cannot_be_talked_out_of_it(tmp_path: Path) -> None:
    serving = served(tmp_path, drain_notice_seconds=0.0)
    server = await serving.__aenter__()
    async with grpc.aio.insecure_channel(server.admin_listen) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == States.SERVING
        leaving = asyncio.create_task(serving.__aexit__(None, None, None))
        assert (await watch.read()).status == States.NOT_SERVING
        await server.runtime.health.set(True)
        watch.cancel()
        await leaving
    assert (server.runtime.health.serving, server.runtime.health.reason) == (False, "draining")


async def test_a_watch_is_ended_by_the_drain_instead_of_holding_it_up(tmp_path: Path) -> None:
    held = Held()
    serving = served(tmp_path, held, drain_seconds=10 * HANG_SECONDS)
    server = await serving.__aenter__()
    async with grpc.aio.insecure_channel(server.listen) as channel:
        watch = start(channel, WATCH, WATCH.valid)
        await watch.read()
        async with asyncio.timeout(HANG_SECONDS):
            await serving.__aexit__(None, None, None)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await watch.read()
    assert refusal(error.value).reason == "DRAINING"


async def test_work_that_outlives_the_drain_is_cancelled_and_its_caller_told_why(tmp_path: Path) -> None:
    held = Held()
    serving = served(tmp_path, held, drain_seconds=0.1)
    server = await serving.__aenter__()
    async with grpc.aio.insecure_channel(server.listen) as channel:
        ended = asyncio.create_task(finish(start(channel, UNARY, UNARY.valid), UNARY))
        await held.began.wait()
        async with asyncio.timeout(HANG_SECONDS):
            await serving.__aexit__(None, None, None)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ended
        assert refusal(error.value).reason == "DRAINING"
        assert held.ended.is_set()


async def test_reflection_lists_the_services_on_the_admin_port_only(tmp_path: Path) -> None:
    async def listed(address: str) -> set[str]:
        async with grpc.aio.insecure_channel(address) as channel:
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            start = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
            async for answer in streamed(start)(iter([asked])):
                return {service.name for service in answer.list_services_response.service}
        raise AssertionError("no answer")

    async with served(tmp_path) as server:
        assert EMBEDDER in await listed(server.admin_listen)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await listed(server.listen)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_metrics_count_calls_by_method_and_status_and_nothing_else(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        await send(server, UNARY)
        await refused(server, UNARY, UNARY.broken)
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://{server.metrics_listen}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("rpc_server_call_duration_seconds_count")]
    method = f'rpc_method="{EMBEDDER}/Embed"'
    assert lines == [
        f'rpc_server_call_duration_seconds_count{{{method},rpc_response_status_code="OK"}} 1.0',
        f'rpc_server_call_duration_seconds_count{{{method},rpc_response_status_code="INVALID_ARGUMENT"}} 1.0',
    ]
    assert "acme" not in text


async def test_a_port_that_is_taken_is_not_shared_in_silence(tmp_path: Path) -> None:
    async with served(tmp_path / "one") as server:
        with pytest.raises(RuntimeError):
            async with served(tmp_path / "two", listen=server.listen):
                pass


async def test_an_idle_request_stream_is_closed(tmp_path: Path) -> None:
    async with served(tmp_path, stream_idle_seconds=0.1) as server:
        async with grpc.aio.insecure_channel(server.listen) as channel:
            for kind in (UP, BOTH):
                call = getattr(channel, kind.shape)(kind.path)(metadata=(("authorization", "Bearer key-of-acme"),))
                await call.write(kind.valid.SerializeToString())
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await (call if kind is UP else finish(call, kind))
                assert refusal(error.value).reason == "REQUEST_STREAM_IDLE"


async def test_a_slow_handler_is_not_an_idle_stream(tmp_path: Path) -> None:
    async def act(_: Any) -> None:
        # Longer than two looks of the idle timer, while the caller has long sent all it has.
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.25, done.set_result, None)
        await done

    async with served(tmp_path, act, stream_idle_seconds=0.1) as server:
        assert len(await send(server, BOTH, [BOTH.valid, BOTH.valid])) == 2


async def test_a_response_over_the_limit_is_a_failure_that_says_what_to_do(tmp_path: Path) -> None:
    class Large(EmbedderServiceServicer):
        async def Embed(self, request: Any, context: Any) -> Any:
            return EmbedResponse(model="x" * (5 * 1024 * 1024))

    @asynccontextmanager
    async def build(_: Runtime) -> AsyncIterator[list[Registration]]:
        yield [Registration(add_EmbedderServiceServicer_to_server, Large(), EMBEDDER)]

    async with running(settings_in(tmp_path), name="echo", build=build, authenticator=KnownKeys()) as server:
        failure = await refused(server, UNARY)
    assert (failure.code, failure.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESPONSE_TOO_LARGE")


async def test_a_policy_for_a_method_that_does_not_exist_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Imbed"):
        Dispatcher(()).handlers(EMBEDDER, {}, {"Imbed": MethodPolicy()})


async def test_the_run_file_tells_the_real_ports_while_the_server_lives(tmp_path: Path) -> None:
    async with served(tmp_path, on_runtime=lambda runtime: runtime.announce(http_listen="h")) as server:
        path = server.runtime.settings.run_file
        facts = json.loads(path.read_text())
        assert facts["listen"] == server.listen
        assert not facts["listen"].endswith(":0")
        assert facts["http_listen"] == "h"
    assert not path.exists()


SERVICE = textwrap.dedent(
    """
    import asyncio, gc, sys
    from contextlib import asynccontextmanager
    from pathlib import Path
    from services.chassis.server import run
    from tests.contract.chassis.echo import Echo, KnownKeys, settings_in

    async def act(request):
        print(gc.get_freeze_count(), flush=True)
        await asyncio.to_thread(sys.stdin.readline)

    async def fail():
        raise RuntimeError("a background task")

    @asynccontextmanager
    async def build(runtime):
        if "fail" in sys.argv:
            runtime.spawn(fail())
        yield Echo(act).registrations({})

    run(settings_in(Path(sys.argv[1])), name="echo", build=build, authenticator=KnownKeys())
    """
)


@asynccontextmanager
async def process_of(folder: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A service in a process of its own, and its address once it serves."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, str(folder), *arguments, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        assert process.stderr is not None
        address = ""
        async with asyncio.timeout(60):
            while not address and (line := await process.stderr.readline()):
                event = json.loads(line) if line.startswith(b"{") else {}
                address = event.get("listen", "")
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_with_zero(tmp_path: Path, number: signal.Signals) -> None:
    async with process_of(tmp_path) as (process, address), grpc.aio.insecure_channel(address) as channel:
        assert process.stdin is not None
        assert process.stdout is not None
        ended = asyncio.create_task(finish(start(channel, UNARY, UNARY.valid), UNARY))
        await process.stdout.readline()
        process.send_signal(number)
        process.stdin.write(b"go\n")
        assert await ended
        assert await process.wait() == 0


async def test_no_call_waits_while_the_collector_looks_through_what_a_service_keeps_for_life(tmp_path: Path) -> None:
    async with process_of(tmp_path) as (process, address), grpc.aio.insecure_channel(address) as channel:
        assert process.stdin is not None
        assert process.stdout is not None
        ended = asyncio.create_task(finish(start(channel, UNARY, UNARY.valid), UNARY))
        assert int(await process.stdout.readline()) > 10_000
        process.stdin.write(b"go\n")
        assert await ended


async def test_a_failed_background_task_stops_the_service(tmp_path: Path) -> None:
    async with process_of(tmp_path, "fail") as (process, _):
        await process.communicate()
        assert process.returncode == 1


async def test_a_failure_while_starting_is_raised(tmp_path: Path) -> None:
    def fail(_: Runtime) -> None:
        raise Failure(Reason.NOT_READY, service="x", why="y")

    with pytest.raises(Failure):
        async with served(tmp_path, on_runtime=fail):
            pass
