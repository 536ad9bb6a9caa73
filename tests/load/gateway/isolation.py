"""A quiet tenant beside one that asks ten times its quota: what the quiet one feels, and how fast the other is refused.

Open loop: requests leave at a constant rate whether or not answers come back, so that a slow
answer does not slow the load down; a late one is timed from when it was due.  The generator has
no engine: 20 tokens, 5 ms each however many answers there are at once.  So it is the gateway and
access that are measured, and nothing of what tenants do to each other at an engine.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from trivium.access.v1 import access_pb2

from tests.edge import Edge
from tests.load.gateway.callers import answer, chat_body, http_request
from tests.load.gateway.parts import Figures, say
from tests.load.percentile import percentile

TOKENS = 20
TOKEN_MS = 5.0
SECONDS = 20.0
ROUNDS = 3
# A second; the loud tenant may ask as often as the quiet one does, and asks ten times as often.
QUIET_RATE = 5.0
LOUD_RATE = 50.0
_IDLE_SECONDS = 2.0


@dataclass
class Answers:
    """What came back: seconds from when each request was due, by what became of it."""

    answered: list[float] = field(default_factory=list)
    shed: list[float] = field(default_factory=list)
    without_hint: int = 0
    failed: int = 0

    def add(self, seconds: float, status: int, headers: "dict[str, str]", body: bytes) -> None:
        """One answer."""
        if status == 200:
            self.answered.append(seconds)
        elif status == 429:
            self.shed.append(seconds)
            self.without_hint += "retry-after" not in headers or not json.loads(body.split(b"\r\n")[1])["error"]
        else:
            self.failed += 1


async def arriving(url: str, request: bytes, rate: float, seconds: float) -> Answers:
    """Requests at a constant rate, each on a connection that nobody else uses then."""
    loop, found = asyncio.get_running_loop(), Answers()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []
    host, port = url.removeprefix("http://").split(":")

    async def one(due: float) -> None:
        # The server closes what is idle for some seconds.
        while idle and loop.time() - idle[-1][2] > _IDLE_SECONDS:
            idle.pop()[1].close()
        reader, writer = idle.pop()[:2] if idle else await asyncio.open_connection(host, int(port))
        writer.write(request)
        status, headers, body = await answer(reader)
        found.add(loop.time() - due, status, dict(headers), body)
        idle.append((reader, writer, loop.time()))

    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            group.create_task(one(due))
    for _, writer, _ in idle:
        writer.close()
    return found


def figures(scale: float) -> Figures:
    """``tenant_isolation`` and what shed requests wait for their refusal."""
    with tempfile.TemporaryDirectory(prefix="isolation-") as folder:
        edge = Edge(Path(folder), token_ms=TOKEN_MS)
        try:
            gateway = edge.gateway()
            quiet = edge.tenant_key("quiet")
            loud = edge.tenant_key("loud", access_pb2.Quota(requests_per_minute=int(QUIET_RATE * 60)))
            return uvloop.run(_rounds(gateway.http, quiet, loud, scale))
        finally:
            edge.close()


async def _rounds(url: str, quiet: str, loud: str, scale: float) -> Figures:
    body = chat_body(TOKENS)
    asks = {name: http_request(url, "/v1/chat/completions", key, body) for name, key in (("q", quiet), ("l", loud))}
    seconds = max(2.0, SECONDS * scale)
    alone, beside, flood = Answers(), Answers(), Answers()
    # The bucket of the loud one holds a minute's worth at first: used up before anything is measured.
    await arriving(url, asks["l"], 2 * LOUD_RATE, QUIET_RATE * 60 / LOUD_RATE)
    for _ in range(ROUNDS if scale >= 1 else 1):
        _join(alone, await arriving(url, asks["q"], QUIET_RATE, seconds))
        began = time.monotonic()
        both = await asyncio.gather(
            arriving(url, asks["q"], QUIET_RATE, seconds), arriving(url, asks["l"], LOUD_RATE, seconds)
        )
        say(f"beside each other for {time.monotonic() - began:.0f} s")
        _join(beside, both[0])
        _join(flood, both[1])
    return told(alone, beside, flood)


def _join(all_: Answers, more: Answers) -> None:
    all_.answered += more.answered
    all_.shed += more.shed
    all_.without_hint += more.without_hint
    all_.failed += more.failed


def told(alone: Answers, beside: Answers, flood: Answers) -> Figures:
    """The table for people, and the figures: the quiet tenant alone and beside the loud one, and that one."""
    say(f"{'who':<22} {'answered':>9} {'shed':>6} {'failed':>6} {'p50 ms':>8} {'p99 ms':>8}")
    for name, found, times in (
        ("quiet, alone", alone, alone.answered),
        ("quiet, beside loud", beside, beside.answered),
        ("loud, answered", flood, flood.answered),
        ("loud, shed", flood, flood.shed),
    ):
        numbers = f"{len(found.answered):>9} {len(found.shed):>6} {found.failed:>6}"
        say(f"{name:<22} {numbers} {_ms(times, 50):>8.1f} {_ms(times, 99):>8.1f}")
    return {
        "tenant_isolation": _ms(beside.answered, 99) / _ms(alone.answered, 99),
        "quiet_shed": len(alone.shed) + len(beside.shed) + alone.failed + beside.failed,
        "loud_answered_share": len(flood.answered) / max(1, len(flood.answered) + len(flood.shed)),
        "loud_shed_p50_ms": _ms(flood.shed, 50),
        "loud_shed_p99_ms": _ms(flood.shed, 99),
        "loud_shed_without_hint": flood.without_hint,
    }


def _ms(seconds: Sequence[float], rank: float) -> float:
    return percentile(seconds, rank / 100) * 1000 if seconds else 0.0
