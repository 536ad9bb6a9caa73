"""What the chassis costs: the same servicer bare on grpc.aio and behind all layers.

``python -m tests.load.rpc`` starts one server of each kind, pins the server that is
measured to one core and the client to another, and alternates between the two.  Requests
carry a signed assertion (verified once, then remembered, as in production) and are
validated.  CPU time is the server process's own, so neighbours on the machine show in
the wall figures only.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import jwt
import psutil
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from services.chassis.config import ServiceSettings
from services.chassis.credentials import AssertionVerifier, CachingAuthenticator
from services.chassis.interceptors.call import EOF
from services.chassis.lifecycle import server_options
from services.chassis.runtime import Runtime
from services.chassis.server import Registration, running
from tests.load.machine import hardware

EMBEDDER = "trivium.embedder.v1.EmbedderService"
GENERATOR = "trivium.generator.v1.GeneratorService"
CONCURRENCY = 32
STREAMS = 4
# The same in both processes; it signs nothing outside of this benchmark.
_SEED = bytes(range(32))


class Embedder(embedder_pb2_grpc.EmbedderServiceServicer):
    """Answers at once: what is left is the cost of the call itself."""

    async def Embed(self, request: Any, context: Any) -> embedder_pb2.EmbedResponse:
        """One small response."""
        return embedder_pb2.EmbedResponse(model=request.model)

    async def EmbedStream(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        """One response a request."""
        async for request in request_iterator:
            answer = embedder_pb2.EmbedResponse(model=request.request.model)
            yield embedder_pb2.EmbedStreamResponse(response=answer)


class Generator(generator_pb2_grpc.GeneratorServiceServicer):
    """Streams as many small messages as asked for."""

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """``request_id`` says how many."""
        for _ in range(int(request.request_id)):
            yield generator_pb2.GenerateResponse()


@dataclass(frozen=True, slots=True)
class Round:
    """One measured stretch: how many calls or messages, in what wall and server CPU time."""

    count: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Per second of wall time."""
        return self.count / self.seconds

    @property
    def cpu_us(self) -> float:
        """Server CPU microseconds for each."""
        return self.cpu_seconds / self.count * 1e6


def assertion() -> str:
    """A signed assertion as access issues them."""
    now = int(time.time())
    claims = {
        "iss": "trivium-access",
        "sub": "bench",
        "tid": "bench",
        "roles": ["member"],
        "iat": now,
        "exp": now + 600,
    }
    return jwt.encode(claims, Ed25519PrivateKey.from_private_bytes(_SEED), algorithm="EdDSA", headers={"kid": "bench"})


async def serve(kind: str) -> None:
    """Serve until standard input closes; the address is the one line of output."""
    if kind == "bare":
        server = grpc.aio.server(options=server_options(ServiceSettings()))
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(Embedder(), server)
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(Generator(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        sys.stdout.write(f"127.0.0.1:{port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(0)
        return
    with tempfile.TemporaryDirectory() as folder:
        zero = "127.0.0.1:0"
        settings = ServiceSettings(listen=zero, admin_listen=zero, metrics_listen=zero, data_dir=Path(folder))
        async with running(settings, name="bench", build=_build) as serving:
            sys.stdout.write(f"{serving.listen}\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def _build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    public = Ed25519PrivateKey.from_private_bytes(_SEED).public_key()

    async def keys() -> dict[str, Any]:
        return {"bench": public}

    async def exchange(_: str) -> str:
        raise NotImplementedError

    runtime.authenticator = CachingAuthenticator(AssertionVerifier(keys), exchange)
    yield [
        Registration(embedder_pb2_grpc.add_EmbedderServiceServicer_to_server, Embedder(), EMBEDDER),
        Registration(generator_pb2_grpc.add_GeneratorServiceServicer_to_server, Generator(), GENERATOR),
    ]


@contextmanager
def server_process(kind: str, core: int) -> Iterator[tuple[psutil.Process, str]]:
    """A server of its own process, pinned to ``core``."""
    command = [sys.executable, "-m", "tests.load.rpc", "--serve", kind]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        process = psutil.Process(child.pid)
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {core})
        yield process, address
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(timeout=30)


class Client:
    """The load on one server: raw bytes, so that the client's own work stays small."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # What a peer's channel sends with every call.
        self._metadata = (
            ("authorization", f"Bearer {assertion()}"),
            ("x-correlation-id", "0af7651916cd43dd8448eb211c80319c"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        )
        self._embed: Any = channel.unary_unary(f"/{EMBEDDER}/Embed")
        self._both: Any = channel.stream_stream(f"/{EMBEDDER}/EmbedStream")
        self._down: Any = channel.unary_stream(f"/{GENERATOR}/Generate")
        request = embedder_pb2.EmbedRequest(model="m", texts=["a short text"])
        self._request = request.SerializeToString()
        self._streamed = embedder_pb2.EmbedStreamRequest(request=request).SerializeToString()

    async def unary(self, count: int) -> None:
        """``count`` calls, CONCURRENCY at a time."""

        async def worker(share: int) -> None:
            for _ in range(share):
                await self._embed(self._request, metadata=self._metadata, timeout=30)

        await asyncio.gather(*(worker(count // CONCURRENCY) for _ in range(CONCURRENCY)))

    async def both_ways(self, count: int) -> None:
        """``count`` messages there and back over STREAMS streams."""

        async def one(share: int) -> None:
            call = self._both(metadata=self._metadata, timeout=120)

            async def send() -> None:
                for _ in range(share):
                    await call.write(self._streamed)
                await call.done_writing()

            sending = asyncio.create_task(send())
            while await call.read() is not EOF:
                pass
            await sending

        await asyncio.gather(*(one(count // STREAMS) for _ in range(STREAMS)))

    async def down(self, count: int) -> None:
        """``count`` messages from the server over STREAMS streams."""

        async def one(share: int) -> None:
            request = generation(share).SerializeToString()
            call = self._down(request, metadata=self._metadata, timeout=120)
            while await call.read() is not EOF:
                pass

        await asyncio.gather(*(one(count // STREAMS) for _ in range(STREAMS)))


def generation(messages: int) -> generator_pb2.GenerateRequest:
    """A valid request for ``messages`` messages."""
    return generator_pb2.GenerateRequest(request_id=str(messages), text="p")


async def measure(process: psutil.Process, load: Callable[[int], Awaitable[None]], count: int) -> Round:
    """Run one stretch of load and read the clock and the server's CPU time around it."""
    before = process.cpu_times()
    began = time.perf_counter()
    await load(count)
    seconds = time.perf_counter() - began
    after = process.cpu_times()
    return Round(count, seconds, after.user + after.system - before.user - before.system)


async def compare(rounds: int, calls: int, messages: int) -> dict[str, dict[str, list[Round]]]:
    """All loads on both servers, alternating, warm-up first."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    results: dict[str, dict[str, list[Round]]] = {}
    with server_process("bare", cores[0]) as bare, server_process("chassis", cores[0]) as chassis:
        async with (
            grpc.aio.insecure_channel(bare[1]) as to_bare,
            grpc.aio.insecure_channel(chassis[1]) as to_chassis,
        ):
            sides = {"bare": (bare[0], Client(to_bare)), "chassis": (chassis[0], Client(to_chassis))}
            for name, count in (("unary", calls), ("both_ways", messages), ("down", messages)):
                results[name] = {side: [] for side in sides}
                for _, client in sides.values():
                    await getattr(client, name)(count // 4)
                for _ in range(rounds):
                    for side, (process, client) in sides.items():
                        results[name][side].append(await measure(process, getattr(client, name), count))
    return results


def report(results: dict[str, dict[str, list[Round]]]) -> dict[str, object]:
    """Print the table; return the facts of the last line."""
    print(f"{'load':<10} {'server':<8} {'wall/s':>9} {'spread':>7} {'cpu us each':>12} {'per core s':>11}")
    ratios: dict[str, dict[str, float]] = {}
    for name, sides in results.items():
        middle = {}
        for side, rounds in sides.items():
            rates = [one.rate for one in rounds]
            middle[side] = (statistics.median(rates), statistics.median(one.cpu_us for one in rounds))
            spread = (max(rates) - min(rates)) / middle[side][0]
            rate, cpu = middle[side]
            print(f"{name:<10} {side:<8} {rate:>9.0f} {spread:>6.0%} {cpu:>12.1f} {1e6 / cpu:>11.0f}")
        pairs = [c.rate / b.rate for b, c in zip(sides["bare"], sides["chassis"], strict=True)]
        ratios[name] = {
            "wall": statistics.median(pairs),
            "spread": max(pairs) - min(pairs),
            "cpu": middle["bare"][1] / middle["chassis"][1],
            "overhead_us": middle["chassis"][1] - middle["bare"][1],
        }
        print(
            f"{name:<10} ratio    {ratios[name]['wall']:>9.2f} {ratios[name]['spread']:>7.2f} {ratios[name]['cpu']:>12.2f}"
        )
    stream = min(("both_ways", "down"), key=lambda name: ratios[name]["wall"])
    return {
        "unary_ratio": round(ratios["unary"]["wall"], 3),
        "unary_cpu_ratio": round(ratios["unary"]["cpu"], 3),
        "unary_overhead_us": round(ratios["unary"]["overhead_us"], 1),
        "stream_ratio": round(ratios[stream]["wall"], 3),
        "stream_cpu_ratio": round(min(ratios["both_ways"]["cpu"], ratios["down"]["cpu"]), 3),
        "stream_overhead_us": round(max(ratios["both_ways"]["overhead_us"], ratios["down"]["overhead_us"]), 2),
        "spread": {name: round(ratio["spread"], 3) for name, ratio in ratios.items()},
        "rounds": len(next(iter(results["unary"].values()))),
        "hardware": hardware(),
        "load_average": round(os.getloadavg()[0], 2),
        "grpc": grpc.__version__,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }


def main() -> None:
    """Measure, or serve one side of the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--serve", choices=["bare", "chassis"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
        return
    facts = report(uvloop.run(compare(options.rounds, options.calls, options.messages)))
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
