"""ghz as the source of load on the gRPC door: streams that arrive at a constant rate, and what came of them.

ghz times whole calls, so it cannot tell when a stream's first message came.  Nor whether a refusal carried RetryInfo: it
reports the code and the sentence of a status, and even in its debug log the trailer stands without the status' details.
That refusals carry it `tests/robustness/gateway/test_limits_hold.py` shows.

ghz sends all that it is told to and waits for the end of each, which is the caller's deadline at the latest.  At its deadline
a call ends on both sides, and whose sentence is reported is whoever was first: so one that hangs at the door is late here like
any other, and that the suite still holds it tells it, see :mod:`tests.load.gateway.holding`.
"""

import json
import math
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.ops.gotools import program
from tests.load.gateway.loading import Door, Loaded
from tests.load.gateway.parts import say
from tests.load.percentile import percentile
from tests.stack import CHECKOUT

_DESCRIPTORS = CHECKOUT / "clients" / "python" / "trivium" / "descriptors.binpb"
# Workers share them evenly; one connection would have all streams wait for one reader.
_CONNECTIONS = 8
# Where the caller says nothing ghz gives up then.
_PATIENCE_SECONDS = 600
# So much later than its deadline no call ends that the deadline ended, however busy the machine is.
_MARGIN_MS = 10_000
_FATES = {"OK": "served", "ResourceExhausted": "shed", "Unavailable": "shed", "DeadlineExceeded": "late"}
# The text of chat.js, so that both doors are asked the same.
_TEXT = "the ferry leaves the old pier at nine and the harbour bell tells the boats of wind and rain"
_PROMPT_WORDS = 48


def arriving(door: Door, *, rate: int, seconds: float, tokens: int, good_ms: float | None = None) -> Loaded:
    """``rate`` requests a second, whatever becomes of the earlier ones; each has ``good_ms`` as its deadline.

    The rate is whole because ghz takes no other.  Raises CalledProcessError where ghz cannot begin.
    """
    count = max(_CONNECTIONS, round(rate * seconds))
    with tempfile.TemporaryDirectory() as folder:
        asked, metadata = Path(folder) / "requests.json", Path(folder) / "metadata.json"
        asked.write_text(json.dumps([_request(door.model, number, tokens) for number in range(count)]))
        # In a file: arguments are for every user of the machine to read.
        metadata.touch(mode=0o600)
        metadata.write_text(json.dumps({"authorization": f"Bearer {door.key}"}))
        settings = {
            "call": "trivium.gateway.v1.GatewayService.Chat",
            "protoset": _DESCRIPTORS,
            "data-file": asked,
            "metadata-file": metadata,
            "load-schedule": "const",
            "rps": rate,
            "total": count,
            "connections": _CONNECTIONS,
            "concurrency": _CONNECTIONS,
            "timeout": f"{_PATIENCE_SECONDS}s" if good_ms is None else f"{good_ms:.0f}ms",
            "format": "json",
        }
        flags = ["--insecure", "--async", "--disable-template-functions", "--disable-template-data"]
        named = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(program("ghz")), *flags, *named, door.url]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(done.stdout)
    for sentence, times in sorted((report["errorDistribution"] or {}).items()):
        say(f"{times} times: {sentence}")
    return loaded(report, count, math.inf if good_ms is None else good_ms)


def loaded(report: Mapping[str, Any], count: int, good_ms: float) -> Loaded:
    """What ghz's ``report`` on ``count`` requests says, in the terms of every source of load.

    ``good_ms`` is infinite where no caller said how long it waits.
    """
    by_fate: dict[str, list[float]] = {"served": [], "shed": [], "late": [], "broken": [], "given_up": []}
    for detail in report["details"] or ():
        ms = detail["latency"] / 1e6
        by_fate[_fate(detail["status"], ms, good_ms)].append(ms)
    served, shed = by_fate["served"], by_fate["shed"]
    return Loaded(
        begun=count,
        served=len(served),
        good=sum(ms <= good_ms for ms in served),
        shed=len(shed),
        hinted=None,
        late=len(by_fate["late"]),
        broken=len(by_fate["broken"]),
        # What nothing is reported of was sent all the same.
        dropped=0,
        seconds=report["total"] / 1e9,
        served_ms=_percentiles(served),
        shed_ms=_percentiles(shed),
        first_byte_ms={},
    )


def _fate(status: str, ms: float, good_ms: float) -> str:
    fate = _FATES.get(status, "broken")
    # Before ghz's own patience is over the door must have said so itself.
    limit = 1000 * _PATIENCE_SECONDS - _MARGIN_MS if math.isinf(good_ms) else good_ms + _MARGIN_MS
    return "given_up" if fate == "late" and ms > limit else fate


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """Under the names that k6 gives them."""
    if not values:
        return {}
    named = {"med": 0.5, "p(90)": 0.9, "p(99)": 0.99, "max": 1.0}
    return {"min": min(values), **{name: percentile(values, part) for name, part in named.items()}}


def _request(model: str, number: int, tokens: int) -> dict[str, Any]:
    # The number makes every prompt another one, so that no door answers from a cache of prefixes.
    words = _TEXT.split()
    prompt = (words[(number * 7 + place * (1 + number % 5)) % len(words)] for place in range(_PROMPT_WORDS))
    turn = {"role": "CHAT_ROLE_USER", "content": f"{number}. {' '.join(prompt)}"}
    sampling = {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return {"model": model, "messages": [turn], "sampling": sampling}
