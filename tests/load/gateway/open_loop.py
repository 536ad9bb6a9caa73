"""The part ``open_loop``: chat completions that arrive at a constant rate, whatever becomes of the earlier ones."""

import tempfile
from pathlib import Path

from services.ops.supervisor import launch
from tests.load.gateway.loading import Door, Loaded, arriving, at_once
from tests.load.gateway.parts import Figures, say

_STREAMS = 32
_TOKENS = 64
# A request is good that was answered within so many times what the median takes at half of the capacity.
_GOOD = 4.0


def figures(scale: float) -> Figures:
    """Requests that arrive at 50, 100 and 200 % of the measured capacity: goodput, what was shed and how fast."""
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder)) as suite:
        door = Door("suite", suite.http, suite.api_key, "base")
        warm = at_once(door, streams=_STREAMS, requests=4 * _STREAMS, tokens=_TOKENS)
        capacity = warm.served / warm.seconds
        say(f"capacity: {capacity:.2f} requests of {_TOKENS} tokens a second")
        seconds = max(10.0, 90.0 * scale)
        half = arriving(door, rate=capacity / 2, seconds=seconds, tokens=_TOKENS)
        good_ms = _GOOD * half.served_ms["med"]
        loads = {50: half} | {
            share: arriving(door, rate=capacity * share / 100, seconds=seconds, tokens=_TOKENS, good_ms=good_ms)
            for share in (100, 200)
        }
    return {"capacity_per_second": capacity, "good_ms": good_ms} | _open_figures(loads, seconds)


def _open_figures(loads: dict[int, Loaded], seconds: float) -> Figures:
    goodput = {share: load.good / seconds for share, load in loads.items()}
    for share, load in loads.items():
        say(f"{share} %: {load}")
    over = loads[200]
    return {
        "open_loop": {
            str(share): {
                "served": load.served,
                "shed": load.shed,
                "broken": load.broken,
                "never_sent": load.dropped,
                "served_p50_ms": load.served_ms.get("med"),
                "served_p99_ms": load.served_ms.get("p(99)"),
                "shed_p99_ms": load.shed_ms.get("p(99)"),
                "goodput_per_second": goodput[share],
            }
            for share, load in loads.items()
        },
        "goodput_ratio": goodput[200] / goodput[100],
        "shed_p99_ms": over.shed_ms.get("p(99)", 0.0),
        "shed_without_hint": over.shed - over.hinted,
        "hung": sum(load.broken for load in loads.values()),
    }
