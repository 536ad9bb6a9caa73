"""What a suite still holds when a load on it is over.

A caller whose time is up leaves, and counts its call as late; whether the suite let go of it too is the suite's to say.
"""

import re
import time
from collections.abc import Callable
from dataclasses import replace

import grpc
import httpx
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import metadata
from tests.load.gateway.loading import Loaded
from tests.load.gateway.parts import say

# What nobody waits for is given up at the engine's next step, which takes a second where much else runs.
_SECONDS = 20.0
_POLL_SECONDS = 0.5
_TIMEOUT_SECONDS = 30.0
_IN_FLIGHT = re.compile(r"^rpc_server_calls_in_flight (\S+)$", re.MULTILINE)


def calls(metrics: str, generator: str, key: str) -> int:
    """In flight at the gateway, or running and waiting at the generator, whichever are more: one call is both."""
    page = httpx.get(f"http://{metrics}/metrics", timeout=_TIMEOUT_SECONDS).raise_for_status().text
    (in_flight,) = _IN_FLIGHT.findall(page)
    with grpc.insecure_channel(generator) as channel:
        stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        request = generator_pb2.ListEnginesRequest()
        engines = stub.ListEngines(request, metadata=metadata(key), timeout=_TIMEOUT_SECONDS).engines
    return max(int(float(in_flight)), sum(engine.running + engine.waiting for engine in engines))


class Held:
    """Counts by load what stays; ``count`` says how many calls are held now, and is asked for ``seconds`` at most."""

    def __init__(self, count: Callable[[], int], seconds: float = _SECONDS) -> None:
        self._count = count
        self._seconds = seconds
        # Of all loads until now: what stayed of one is not the next one's.
        self._stayed = 0

    @classmethod
    def of(cls, suite: Suite) -> "Held":
        """Of a suite that has nothing else to do."""
        metrics, generator = suite.metrics_addresses["gateway"], suite.addresses["generator"]
        return cls(lambda: calls(metrics, generator, suite.api_key))

    def after(self, load: Loaded) -> Loaded:
        """The load, with how many of its calls are held once all had the time to end."""
        until = time.monotonic() + self._seconds
        while (now := self._count()) > self._stayed and time.monotonic() < until:
            # Nobody tells when a call is let go: it is asked for again.
            time.sleep(_POLL_SECONDS)
        stayed, self._stayed = now - self._stayed, now
        if stayed > 0:
            say(f"{stayed} calls are still held {self._seconds:.0f} s after the load")
        return replace(load, held=max(0, stayed))
