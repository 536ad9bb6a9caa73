"""Which examples are trained on and which are held out.

Invariant: the choice depends on the seed, the number of rows and which of them say the same, on nothing else: not on
the machine, the Python version or what was drawn before.  Rows that say the same are never on both sides, so that
an evaluation never asks what was learned by heart.  Rows that say nearly the same may be: `inspection` counts them.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence


def split(
    rows: Sequence[Hashable], validation_ratio: float, sample_rows: int, seed: int
) -> tuple[list[int], list[int]]:
    """Return the indices that are trained on and those that are held out, each in ascending order.

    `rows[i]` is what equal rows share (`encoding.Prepared.identities`).  First `sample_rows` rows are drawn (0: all),
    then of these about `validation_ratio` (0 to below 1) is held out: at least one row where anything is to be, and
    never all; of a dataset whose rows all say the same nothing.
    """
    order = _shuffled(len(rows), seed, "sample")
    drawn = order[:sample_rows] if sample_rows else order
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index in sorted(drawn):
        groups[rows[index]].append(index)
    wanted = max(1, round(validation_ratio * len(drawn))) if validation_ratio > 0 else 0
    held_out: set[int] = set()
    places = {index: place for place, index in enumerate(_shuffled(len(rows), seed, "validation"))}
    for group in sorted(groups.values(), key=lambda group: places[group[0]]):
        if len(held_out) + len(group) <= wanted and len(held_out) + len(group) < len(drawn):
            held_out.update(group)
    if wanted and not held_out and len(groups) > 1:
        # Every group is larger than what was wanted: the smallest, which is what comes nearest.
        size, _, index = min((len(group), places[group[0]], group[0]) for group in groups.values())
        held_out.update(groups[rows[index]][:size])
    return sorted(index for index in drawn if index not in held_out), sorted(held_out)


def _shuffled(count: int, seed: int, purpose: str) -> list[int]:
    """The numbers below `count` in the order of their digests."""

    def place(index: int) -> bytes:
        return hashlib.blake2b(f"{purpose}:{seed}:{index}".encode(), digest_size=16).digest()

    return sorted(range(count), key=place)
