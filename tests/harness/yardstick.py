"""A fixed piece of work, to tell a slow machine from a slow test suite.

Machines differ, and the speed of a shared one varies by the hour.  Budgets are therefore processor seconds of a machine on
which the yardstick takes :data:`REFERENCE_SECONDS`: what a run took is divided by what the yardstick took beside it.
"""

from __future__ import annotations

import hashlib
import time

# Processor seconds of the yardstick on the machine whose seconds the budgets are: an AMD EPYC, two cores.
REFERENCE_SECONDS = 0.22
_TURNS = 3
_STEPS = 1_000_000
_BYTES = 8 << 20


def seconds() -> float:
    """Return the processor seconds of the fixed work on this machine now: the median of three turns."""
    taken = []
    for _ in range(_TURNS):
        begun = time.process_time()
        _work()
        taken.append(time.process_time() - begun)
    return sorted(taken)[_TURNS // 2]


def _work() -> int:
    """Interpret bytecode, allocate objects, and run compiled code over memory, as the suite does."""
    total = 0
    words: dict[str, int] = {}
    for step in range(_STEPS):
        total = (total * 31 + step) % 1_000_003
        words[f"{total % 4096}"] = total
    block = bytes(_BYTES)
    for _ in range(4):
        block = hashlib.sha256(block).digest() * (_BYTES // 32)
    return total + len(words) + len(block)
