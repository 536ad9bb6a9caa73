"""Which caller of an alias gets a canary: a hundred buckets, handed out once and kept.

Invariant: a key falls into the same bucket of an alias for ever, and a share that grows or
shrinks takes or gives back only the buckets by which it changes, so that nobody moves to
other weights who need not.
"""

import hashlib
import random
from collections.abc import Iterable

BUCKETS = 100


def bucket_of(tenant: str, model: str, alias: str, sticky_key: str) -> int:
    """The bucket of a key; drawn anew each time without one."""
    if not sticky_key:
        return random.randrange(BUCKETS)
    # Lengths stand before the texts, so that no two lists of names read the same.
    named = "".join(f"{len(name)}:{name}" for name in (tenant, model, alias, sticky_key))
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8]) % BUCKETS


def resized(own: Iterable[int], others: Iterable[int], percent: int) -> list[int]:
    """The buckets of a canary that is to have ``percent``: its own first, then those nobody has.

    The caller sees to it that all shares fit together.
    """
    mine = sorted(own)
    taken = {*mine, *others}
    free = (bucket for bucket in range(BUCKETS) if bucket not in taken)
    return sorted([*mine, *free][:percent])
