"""How many tokens a joint step holds on this machine: from how many on the base's products are as fast as they get.

Invariant: what is measured here decides when a job's steps are taken and never what they compute.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.chassis.files import write_atomically
from services.trainer.scheduling.choosing import Step

_SIZES = (256, 512, 1024, 2048)
_ROUNDS = 2
# A larger pass gains less than this beyond: the smaller one lets jobs join, stop and finish sooner.
_ENOUGH = 0.95
# A machine may have been busy when it was measured, and gets other libraries and other releases: not for ever.
_KEPT_SECONDS = 7 * 24 * 3600
# Forward, backward through activations, and the adapters: what a trained token costs of one that is only read.
_TRAINED_COST = 3.0
# Fewer tokens of a job than these cost its own small products more than they share of the base's.  Nothing else limits
# how many jobs a step holds: sixteen of 32 tokens each leave three quarters of a budget of 2,048 unused, in which others
# train for a part of the time that a step of their own would take.
_MEMBER_TOKENS = 32


def step_limits(path: Path | None, run: Callable[[int], None], clock: Callable[[], float] = time.perf_counter) -> Step:
    """Return the limits of a step, measured by `run`, which takes so many tokens through the base.

    They are kept at `path` for a week; without a path they are measured each time.
    """
    speeds = _read(path)
    if speeds is None:
        # The first pass of a process allocates and compiles.
        run(_SIZES[0])
        speeds = {size: _speed(size, run, clock) for size in _SIZES}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(speeds).encode())
    return limits_of(speeds)


def limits_of(speeds: Mapping[int, float]) -> Step:
    """The limits that follow from tokens a second by tokens of a pass."""
    best = max(speeds.values())
    budget = min(size for size, speed in speeds.items() if speed >= _ENOUGH * best)
    return Step(
        budget_tokens=budget,
        max_members=budget // _MEMBER_TOKENS,
        tokens_per_second=speeds[budget] / _TRAINED_COST,
    )


def probe_lengths(tokens: int) -> Sequence[int]:
    """The sequences of a pass of so many tokens, as short as rows of a business dataset are."""
    return [64] * (tokens // 64)


def _speed(size: int, run: Callable[[int], None], clock: Callable[[], float]) -> float:
    """Tokens a second of the fastest of some passes; what else the machine did meanwhile only slows them."""
    took = []
    for _ in range(_ROUNDS):
        began = clock()
        run(size)
        took.append(clock() - began)
    return size / max(min(took), 1e-9)


def _read(path: Path | None) -> dict[int, float] | None:
    """What was measured before; None for nothing, nothing that makes sense, or what was long ago."""
    if path is None:
        return None
    try:
        if abs(time.time() - path.stat().st_mtime) > _KEPT_SECONDS:
            return None
        found = {int(size): float(speed) for size, speed in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return found if set(found) == set(_SIZES) and min(found.values()) > 0 else None
