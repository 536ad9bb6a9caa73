"""The processor time that work takes, where a test bounds it.

A machine that shares its cores with others may charge a process for time that it did not get: a check of 0.4 s was charged
1.3 s once, and no other cause was found.  That only adds, so the least of three attempts is nearest to the work itself.
"""

from collections.abc import Callable

_ATTEMPTS = 3


def least_seconds(bound_seconds: float, attempt: Callable[[], float]) -> float:
    """The least processor seconds that `attempt` returns in up to three calls; the first within the bound is the last."""
    least = attempt()
    for _ in range(_ATTEMPTS - 1):
        if least < bound_seconds:
            break
        least = min(least, attempt())
    return least
