"""A service that starts children while calls are in flight does not wait for ever in a fork."""

import subprocess
import sys

from tests.harness.plugin_sampling import is_whole

# Calls keep gRPC's threads at their locks while children are started; without the setting in
# services/__init__.py this stops within the first hundreds of children.
_PROGRAM = """
import asyncio
import sys
import services
import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


async def call(stub):
    while True:
        await stub.Check(health_pb2.HealthCheckRequest())


async def main():
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.use_local_subchannel_pool", 1)]
    stubs = [health_pb2_grpc.HealthStub(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)) for _ in range(6)]
    callers = [asyncio.create_task(call(stub)) for stub in stubs]
    for _ in range(int(sys.argv[1])):
        child = await asyncio.create_subprocess_exec("/bin/true")
        await child.wait()
    for caller in callers:
        caller.cancel()
    await server.stop(0)


uvloop.run(main())
"""


def test_children_can_be_started_while_calls_are_in_flight() -> None:
    # Output goes nowhere: a child that hangs would hold a pipe open beyond the time limit.
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(1500 if is_whole() else 500)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    assert ended.returncode == 0
