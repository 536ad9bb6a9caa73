"""Where a request goes, of several generators: pure decisions over what is known of each.

Everything is measured in answers: a replica's load is those that run or wait there, and what
it would have to load first counts as so many more.  So a replica that holds the adapter is
preferred until it is busier than loading elsewhere costs.

Of many replicas only a few are looked at: two drawn at random (Mitzenmacher, 2001: the least
loaded of two keeps the longest queue short, and, unlike the least loaded of all, sends no
herd to one replica while what is known of it is old) and two of those that hold the version
nearest.  Before that, whatever shares a beginning goes where the beginning is cached: the
place of a key is the highest of its hashes with each replica (rendezvous hashing: Thaler and
Ravishankar, 1998), so that a replica which comes or goes moves its own keys alone.  It yields
once it is busier than the others by more than the cached beginning is worth.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Nearness(IntEnum):
    """How near a version is to serving."""

    REMOTE = 0
    FILE = 1
    MEMORY = 2
    SLOT = 3


# What a load takes in the time of answers, about: from the registry, from a file, from memory into a slot.
COST_ANSWERS = {Nearness.REMOTE: 6.0, Nearness.FILE: 3.0, Nearness.MEMORY: 0.5, Nearness.SLOT: 0.0}
# What a cached beginning is worth: so much busier may its place be.
STICKY_ANSWERS = 2.0
_LOOKED_AT = 2


@dataclass(frozen=True, slots=True)
class Replica:
    """What is known of a replica at the moment of a choice.  ``usable``: it may be sent something now."""

    address: str
    load: float
    nearness: Nearness
    usable: bool = True

    @property
    def cost(self) -> float:
        """Answers before this one's turn, what it has to load counted in."""
        return self.load + COST_ANSWERS[self.nearness]


def chosen(
    replicas: Sequence[Replica],
    key: str,
    draw: Callable[[int], int],
    excluded: Collection[str] = (),
) -> str | None:
    """The address of the replica that a request goes to; None when there is none but the ``excluded``.

    An empty ``key`` has no place.  ``draw(n)`` is a number below n at random.  Where none is usable, all are tried: what is
    known of them may be wrong, and to refuse would be certain failure.
    """
    there = [replica for replica in replicas if replica.address not in excluded]
    usable = [replica for replica in there if replica.usable] or there
    if not usable:
        return None
    looked_at = _drawn(usable, draw)
    nearest = max(replica.nearness for replica in usable)
    looked_at += _drawn([replica for replica in usable if replica.nearness is nearest], draw)
    # Of equals the first drawn, so that they share.
    best = min(looked_at, key=lambda replica: replica.cost)
    if key:
        place = max(usable, key=lambda replica: _weight(key, replica.address))
        if place.cost <= best.cost + STICKY_ANSWERS:
            return place.address
    return best.address


def _drawn(replicas: Sequence[Replica], draw: Callable[[int], int]) -> list[Replica]:
    left = list(replicas)
    return [left.pop(draw(len(left))) for _ in range(min(_LOOKED_AT, len(left)))]


def _weight(key: str, address: str) -> bytes:
    return hashlib.blake2b(f"{key}\n{address}".encode(), digest_size=8).digest()
