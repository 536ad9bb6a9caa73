"""The part ``open_loop``: chat completions that arrive at a constant rate, whatever becomes of the earlier ones.

Over both doors, one after the other: HTTP by k6, gRPC by ghz, the same requests at the same rates.  Rates are whole requests a
second, as ghz takes them.  Invariants: a rate that stands for a share of the capacity is that share; where rounding makes it
another one nothing is reported.  Each load is over for the suite too before the next begins, and what is not has hung.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from services.ops.supervisor import launch
from tests.load.gateway import grpc_loading
from tests.load.gateway.holding import Held
from tests.load.gateway.loading import Door, Loaded, arriving, at_once
from tests.load.gateway.parts import Figures, say

_STREAMS = 32
# Few, so that a small machine answers many requests a second and whole rates can be near their shares: the first of these
# at which they are.
_TOKENS = (8, 4, 2, 6, 3, 12, 5, 16)
_MOST_OFF = 0.05
# So many times what the median takes at half of the capacity every caller waits from then on, and says so: what comes later is
# of no use to it.
_GOOD = 4.0
_SHARES = (50, 100, 200)
_PERCENTILES = {"p50": "med", "p90": "p(90)", "p99": "p(99)"}

# By door and share of the capacity.
Loads = dict[str, dict[int, Loaded]]


def figures(scale: float) -> Figures:
    """Requests that arrive at 50, 100 and 200 % of the measured capacity: goodput, what was shed and how fast."""
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder)) as suite:
        http = Door("http", suite.http, suite.api_key, "base")
        grpc = Door("grpc", suite.addresses["gateway"], suite.api_key, "base")
        held = Held.of(suite)
        tokens, capacity = _measured(http, scale)
        rates = whole_rates(capacity)
        seconds = max(10.0, 90.0 * scale)
        loads: Loads = {"http": {}, "grpc": {}}
        good_ms: float | None = None
        for share, rate in rates.items():
            by_k6 = held.after(arriving(http, rate=rate, seconds=seconds, tokens=tokens, good_ms=good_ms))
            by_ghz = held.after(grpc_loading.arriving(grpc, rate=rate, seconds=seconds, tokens=tokens, good_ms=good_ms))
            loads["http"][share], loads["grpc"][share] = by_k6, by_ghz
            if share == _SHARES[0]:
                good_ms = _GOOD * by_k6.served_ms["med"]
    _tell(loads, rates)
    about = {"tokens_a_request": tokens, "capacity_per_second": capacity, "good_ms": good_ms, "rates": rates}
    return about | told(loads, seconds)


def _measured(door: Door, scale: float) -> tuple[int, float]:
    """Tokens of a request, and how many requests of so many tokens are answered in a second."""
    requests = max(_STREAMS, round(4 * _STREAMS * scale))
    for tokens in _TOKENS:
        warm = at_once(door, streams=_STREAMS, requests=requests, tokens=tokens)
        capacity = warm.served / warm.seconds
        say(f"capacity: {capacity:.2f} requests of {tokens} tokens a second")
        if not _off(capacity):
            break
    return tokens, capacity


def whole_rates(capacity: float) -> dict[int, int]:
    """Requests a second by share of the capacity.  Raises ValueError where a whole number is not near enough to its share."""
    off = _off(capacity)
    if off:
        raise ValueError(
            f"at a capacity of {capacity:.2f} requests a second {' and '.join(off)}, over {_MOST_OFF:.0%} off: nothing would be "
            "told of those shares. Run it again on a machine with nothing else to do, or with fewer tokens a request (_TOKENS)"
        )
    return {share: round(capacity * share / 100) for share in _SHARES}


def _off(capacity: float) -> list[str]:
    """The shares that no whole rate is near enough to, told as people read them."""
    wanted = {share: capacity * share / 100 for share in _SHARES}
    return [
        f"{share} % are {rate:.2f}, and would be sent as {round(rate)}"
        for share, rate in wanted.items()
        if abs(round(rate) - rate) >= _MOST_OFF * rate
    ]


def _tell(loads: Loads, rates: Mapping[int, int]) -> None:
    """The table for people."""
    say(f"{'':28} {'':56} {'served, ms':^29} {'shed, ms':^29}")
    counts = "".join(f"{name:>8}" for name in ("served", "good", "shed", "late", "broken", "hung", "unsent"))
    say(f"{'load':<28} {counts:56} " + " ".join(f"{name:>9}" for name in (*_PERCENTILES, *_PERCENTILES)))
    for share, rate in rates.items():
        for door, by_share in loads.items():
            load = by_share[share]
            of = f"{share} %, {rate} a second, {door}"
            fates = (load.served, load.good, load.shed, load.late, load.broken, load.hung, load.dropped)
            numbers = "".join(f"{number:>8}" for number in fates)
            times = (
                of_these.get(name) for of_these in (load.served_ms, load.shed_ms) for name in _PERCENTILES.values()
            )
            say(f"{of:<28} {numbers:56} " + " ".join("        -" if ms is None else f"{ms:>9.1f}" for ms in times))
    say("whether shed requests came with a hint is k6's to tell; ghz keeps no details of a status")


def told(loads: Loads, seconds: float) -> Figures:
    """The figures of loads that lasted so long; ``hung`` and ``broken`` are of all shares."""
    found: Figures = {"open_loop": {door: _by_share(by_share, seconds) for door, by_share in loads.items()}}
    for door, prefix in (("http", ""), ("grpc", "grpc_")):
        by_share = loads[door]
        found[f"{prefix}goodput_ratio"] = by_share[200].good / max(1, by_share[100].good)
        found[f"{prefix}shed_p99_ms"] = by_share[200].shed_ms.get("p(99)", 0.0)
        found[f"{prefix}hung"] = sum(load.hung for load in by_share.values())
        found[f"{prefix}broken"] = sum(load.broken for load in by_share.values())
    over = loads["http"][200]
    assert over.hinted is not None, "k6 counts the hints"
    return found | {"shed_without_hint": over.shed - over.hinted}


def _by_share(loads: Mapping[int, Loaded], seconds: float) -> Figures:
    return {
        str(share): {
            "served": load.served,
            "shed": load.shed,
            "late": load.late,
            "broken": load.broken,
            "hung": load.hung,
            "never_sent": load.dropped,
            **{f"served_{name}_ms": load.served_ms.get(of) for name, of in _PERCENTILES.items()},
            **{f"shed_{name}_ms": load.shed_ms.get(of) for name, of in _PERCENTILES.items()},
            "goodput_per_second": load.good / seconds,
        }
        for share, load in loads.items()
    }
