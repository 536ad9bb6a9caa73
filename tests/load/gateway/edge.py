"""Requests a second a core: the real edge over a generator that does nothing, beside the floor.

Keys, quotas and usage records are on: each request is reserved, settled and recorded at a real
access before its answer ends.  CPU time is the gateway's own, so neighbours on the machine do
not show in it; the sides alternate.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import uvloop
from trivium.access.v1 import access_pb2

from tests import tied
from tests.edge import Edge
from tests.harness.gateway import Gateway
from tests.load.gateway.callers import GrpcCaller, HttpCaller, chat_body, chat_request, http_request
from tests.load.gateway.parts import Figures, Stretch, measured, say
from tests.stack import CHECKOUT

ROUNDS = 5
COUNT = 2048
# Limited, so that everything is counted, and so high that nothing is refused.
_QUOTA = access_pb2.Quota(requests_per_minute=10_000_000, tokens_per_minute=10_000_000_000, concurrent_requests=100_000)


def figures(scale: float) -> Figures:
    """``edge_rps`` and ``edge_ratio``."""
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        edge = Edge(Path(folder))
        try:
            gateway, key = edge.gateway(), edge.tenant_key("bench", _QUOTA)
            address = edge.generator_address
            command = [sys.executable, "-m", "tests.load.gateway.floor", address]
            floor = tied.start(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                assert floor.stdout is not None
                grpc_floor, http_floor = floor.stdout.readline().decode().split()
                return uvloop.run(_compare(gateway, key, floor.pid, grpc_floor, http_floor, scale))
            finally:
                floor.kill()
                floor.wait()
        finally:
            edge.close()


async def _compare(gateway: Gateway, key: str, floor: int, grpc_floor: str, http_floor: str, scale: float) -> Figures:
    async with grpc.aio.insecure_channel(gateway.address) as ours, grpc.aio.insecure_channel(grpc_floor) as theirs:
        body, turn = chat_body(1), chat_request(1)

        def http(url: str, path: str) -> HttpCaller:
            return HttpCaller(url, http_request(url, path, key, body))

        sides: dict[str, tuple[int, HttpCaller | GrpcCaller]] = {
            "http": (gateway.pid, http(gateway.http, "/v1/chat/completions")),
            "http_floor": (floor, http(http_floor, "/floor")),
            "http_hop": (floor, http(http_floor, "/hop")),
            "grpc": (gateway.pid, GrpcCaller(ours, key, turn)),
            "grpc_floor": (floor, GrpcCaller(theirs, key, turn)),
        }
        count = max(64, int(COUNT * scale))
        found: dict[str, list[Stretch]] = {name: [] for name in sides}
        for _, caller in sides.values():
            await caller.load(count // 2)
        for _ in range(ROUNDS if scale >= 1 else 1):
            for name, (pid, caller) in sides.items():
                stretch = await measured(pid, caller.load, count)
                assert stretch.count == count, f"{name}: {count - stretch.count} were refused"
                found[name].append(stretch)
    return told(found)


def told(found: dict[str, list[Stretch]]) -> Figures:
    """The table for people, and the figures; stretches by side."""
    say(f"{'side':<12} {'us each':>9} {'a second a core':>16} {'spread':>7}")
    middle: dict[str, float] = {}
    for name, stretches in found.items():
        costs = [stretch.each_us for stretch in stretches]
        middle[name] = statistics.median(costs)
        spread = (max(costs) - min(costs)) / middle[name]
        say(f"{name:<12} {middle[name]:>9.1f} {1e6 / middle[name]:>16.0f} {spread:>6.0%}")
    return {
        # Of the dearer door, as the ratio is.
        "edge_rps": 1e6 / max(middle["http"], middle["grpc"]),
        "edge_rps_http": 1e6 / middle["http"],
        "edge_rps_grpc": 1e6 / middle["grpc"],
        "edge_ratio_http": middle["http_floor"] / middle["http"],
        "edge_ratio_grpc": middle["grpc_floor"] / middle["grpc"],
        "edge_ratio": min(middle["http_floor"] / middle["http"], middle["grpc_floor"] / middle["grpc"]),
        # Beside a handler that does what no gateway can leave out: ask the generator.
        "edge_ratio_http_hop": middle["http_hop"] / middle["http"],
    }
