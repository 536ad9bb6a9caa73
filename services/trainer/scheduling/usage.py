"""What tenants have used: seconds of machine that fade with time, and tokens counted by the clock.

A second of machine is one second of all the cores of a node.  A joint step is charged to its jobs
by their tokens, a solo process by its part of the cores.
Invariant: fading is by time alone; charging in one piece or in many comes to the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Decayed seconds of machine, as they stood at ``as_of``: the last time that the tenant was charged."""

    seconds: float = 0.0
    as_of: float = 0.0


def decayed(usage: Usage, now: float, half_life_seconds: float) -> float:
    """Seconds of machine that still count at ``now``; a clock that went back changes nothing."""
    elapsed = max(0.0, now - usage.as_of)
    return float(usage.seconds * 0.5 ** (elapsed / half_life_seconds))


def charge(usage: Usage, seconds: float, now: float, half_life_seconds: float) -> Usage:
    """The usage after ``seconds`` of machine up to ``now``."""
    return Usage(decayed(usage, now, half_life_seconds) + seconds, max(now, usage.as_of))


def solo_charge(seconds: float, threads: int, cores: int) -> float:
    """Seconds of machine of a process that computed for ``seconds`` on ``threads`` of a node's ``cores``.

    A gang's are the sum over its processes.
    """
    return seconds * min(1.0, threads / cores)


def joint_charges(seconds: float, tokens: Mapping[str, int]) -> dict[str, float]:
    """Each job's part, by its ``tokens``, of the ``seconds`` of machine that a joint step took."""
    total = sum(tokens.values())
    return {job: seconds * count / total for job, count in tokens.items()} if total else {}


def window_end(now: float, window_seconds: float) -> float:
    """When the window of the clock that ``now`` lies in ends."""
    return (now // window_seconds + 1) * window_seconds


def window_tokens(tokens: int, as_of: float, now: float, window_seconds: float) -> int:
    """Tokens of the present window, of ``tokens`` that were counted up to ``as_of``."""
    return tokens if now < window_end(as_of, window_seconds) else 0
