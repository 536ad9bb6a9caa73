"""The part ``streams``: tokens a second through one gateway that holds 5,000 chat streams open, and the memory of that.

The generator has no engine and offers twice the aim of 10,000 a second, so that whoever is slower is the measure, and
what waits has to wait at the generator.  Readers are processes of their own.  The gateway's own time on the processors stands beside the
wall's: on a machine of few cores generator, gateway and readers take them from each other.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests import tied
from tests.edge import Edge
from tests.load.gateway.parts import Figures, say
from tests.load.trainer.parts import spread
from tests.stack import CHECKOUT

_STREAMS = 5_000
_OFFERED_PER_SECOND = 20_000.0
_READERS = 2
_SECONDS = 20.0
_ROUNDS = 5
_MIB = 1 << 20
_ROOM = {
    name: str(2 * _STREAMS)
    for name in (
        "TRIVIUM_GATEWAY_MAX_CALLS",
        "TRIVIUM_GATEWAY_MAX_STREAMS_PER_TENANT",
        "TRIVIUM_GATEWAY_GENERATION_PLACES",
    )
}


@dataclass(frozen=True, slots=True)
class Window:
    """What came in while so many seconds passed; ``least`` of any stream; memory of the gateway at the end."""

    seconds: float
    tokens: int
    least: int
    cpu_seconds: float
    resident_bytes: int


class Reader:
    """A process that holds a share of the streams."""

    def __init__(self, url: str, key: str, streams: int) -> None:
        command = [sys.executable, "-m", "tests.load.gateway.receiver", url, key, str(streams)]
        self._child = tied.start(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def told(self) -> dict[str, Any]:
        """Its next line.  Raises RuntimeError where it has ended."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError("a reader ended: its error output says why")
        told: dict[str, Any] = json.loads(line)
        return told

    def ask(self) -> None:
        """For what came in since."""
        assert self._child.stdin is not None
        self._child.stdin.write(b"\n")
        self._child.stdin.flush()

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()


def figures(scale: float) -> Figures:
    """``edge_tokens_per_s`` and the gateway's resident memory."""
    streams = max(_READERS * 10, round(_STREAMS * scale))
    pace_ms = 1000 * streams / _OFFERED_PER_SECOND
    with tempfile.TemporaryDirectory(prefix="streams-") as folder, ExitStack() as stack:
        edge = Edge(Path(folder), token_ms=pace_ms, environment=_ROOM)
        stack.callback(edge.close)
        gateway, key = edge.gateway(), edge.tenant_key("bench")
        process = psutil.Process(gateway.pid)
        idle = process.memory_info().rss
        readers = []
        for _ in range(_READERS):
            readers.append(Reader(gateway.http, key, streams // _READERS))
            stack.callback(readers[-1].close)
        refused = sum(reader.told()["refused"] for reader in readers)
        say(
            f"{streams} streams are open after {refused} refusals, {_OFFERED_PER_SECOND:.0f} tokens a second are offered"
        )
        _counted(process, readers, 1.0)
        windows = [_counted(process, readers, max(2.0, _SECONDS * scale)) for _ in range(_ROUNDS if scale >= 1 else 2)]
    return told(streams, idle, windows) | {"edge_refused_meanwhile": refused}


def _counted(process: psutil.Process, readers: Sequence[Reader], seconds: float) -> Window:
    for reader in readers:
        reader.ask()
    for reader in readers:
        reader.told()
    began, before = time.perf_counter(), process.cpu_times()
    # The window itself: what passes in it is what is counted.
    time.sleep(seconds)
    for reader in readers:
        reader.ask()
    counts = [reader.told() for reader in readers]
    after = process.cpu_times()
    return Window(
        time.perf_counter() - began,
        sum(count["tokens"] for count in counts),
        min(count["least"] for count in counts),
        after.user + after.system - before.user - before.system,
        process.memory_info().rss,
    )


def told(streams: int, idle: int, windows: Sequence[Window]) -> Figures:
    """The figures of so many streams; ``idle`` is the gateway's memory before them, in bytes."""
    rates = [window.tokens / window.seconds for window in windows]
    a_core = [window.tokens / window.cpu_seconds for window in windows]
    resident = [window.resident_bytes / _MIB for window in windows]
    say(f"tokens a second {spread(rates)}, a second of the gateway's own time {spread(a_core)}")
    say(f"resident MiB: idle {idle / _MIB:.0f}, then {', '.join(f'{value:.0f}' for value in resident)}")
    return {
        "edge_streams": streams,
        "edge_tokens_per_s": statistics.median(rates),
        "edge_tokens_per_core_s": statistics.median(a_core),
        "edge_tokens_us": 1e6 / statistics.median(a_core),
        "edge_least_tokens_of_a_stream": min(window.least for window in windows),
        "edge_resident_idle_mib": idle / _MIB,
        "edge_resident_mib": max(resident),
        "edge_resident_growth_mib": resident[-1] - resident[0],
        "edge_resident_kib_a_stream": (max(resident) - idle / _MIB) * 1024 / streams,
    }
