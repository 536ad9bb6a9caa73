"""k6 as the source of load on a door that speaks OpenAI's chat completions: closed or open loop, and what came of it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.ops.gotools import program

_SCRIPT = Path(__file__).with_name("chat.js")


@dataclass(frozen=True, slots=True)
class Door:
    """Where to ask (a URL; of gRPC ``host:port``), as whom, and for which model."""

    name: str
    url: str
    key: str
    model: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Requests by what became of them; times in milliseconds by percentile, empty where there were none.

    ``good`` of the ``served`` came within the time for which the caller waited, and the ``late`` were given up when it was
    over; ``hinted`` of the ``shed`` came with a retry-after, None
    where the source of the load cannot tell; ``dropped`` were never sent, because too many were open.  ``held`` are those
    that the suite was still busy with some time after the load, whatever they count as here.
    """

    begun: int
    served: int
    good: int
    shed: int
    hinted: int | None
    late: int
    broken: int
    dropped: int
    seconds: float
    served_ms: dict[str, float]
    shed_ms: dict[str, float]
    first_byte_ms: dict[str, float]
    held: int = 0

    @property
    def unended(self) -> int:
        """Of those begun the ones that nothing became of while the source of the load waited."""
        return self.begun - self.served - self.shed - self.late - self.broken

    @property
    def hung(self) -> int:
        """At least so many: one that has no end for its caller is mostly one that the suite holds, and counts once."""
        return max(self.unended, self.held)


def at_once(door: Door, *, streams: int, requests: int, tokens: int) -> Loaded:
    """``requests`` of ``tokens`` tokens each, so many streams open at any time."""
    return _run(door, {"AT_ONCE": streams, "REQUESTS": requests, "TOKENS": tokens})


def arriving(
    door: Door, *, rate: float, seconds: float, tokens: int, good_ms: float | None = None, open_at_most: int = 512
) -> Loaded:
    """``rate`` requests a second, whatever becomes of the earlier ones; each says that it waits ``good_ms``."""
    wanted = {"OPEN": 1, "RATE": rate, "SECONDS": seconds, "TOKENS": tokens, "VUS": open_at_most}
    if good_ms is not None:
        wanted["GOOD_MS"] = good_ms
    return _run(door, wanted)


def _run(door: Door, settings: dict[str, Any]) -> Loaded:
    named = {"URL": door.url, "KEY": door.key, "MODEL": door.model}
    environment = {**os.environ, **{name: str(value) for name, value in {**named, **settings}.items()}}
    command = [str(program("k6")), "run", "--quiet", "--no-color", "--address", "", str(_SCRIPT)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return Loaded(**{name: {} if value is None else value for name, value in told.items()})
