"""The shape of a summary tree: which leaves and nodes stand under which node.

Boundaries are chosen by hash, as in a prolly tree: of a stretch of ``most`` items or more
the one with the least hash ends a run, and what is left and right of it is cut in the same
way.  So an item ends a run exactly if it has the least hash of ``most`` items around it.
Invariants: the shape follows from the sequence of leaves alone, whatever came and went
before; no node has more than ``most`` children; where items come
or go, no node changes that is further away than ``most`` items, so that on average a leaf
costs little more than one node a level.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Children of a node; on average there are a little over half as many.
MOST_CHILDREN = 16
# With fewer, a level may have as many nodes as the one below it.
_LEAST_BOUND = 3


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its digest, that of its children in order, and the leaves [first, last) below it.

    ``level`` is 1 for nodes over leaves.
    """

    digest: bytes
    level: int
    children: tuple[bytes, ...]
    first: int
    last: int


Level = tuple[Node, ...]


def levels(leaves: Sequence[bytes], most: int = MOST_CHILDREN) -> tuple[Level, ...]:
    """The tree over leaves, given by distinct digests: the nodes over leaves first, the root alone in the last level.

    Without leaves there is no tree.
    """
    if most < _LEAST_BOUND:
        raise ValueError(f"a node has at most {_LEAST_BOUND} children or more, not {most}")
    found: list[Level] = []
    below = [Node(leaf, 0, (), at, at + 1) for at, leaf in enumerate(leaves)]
    while below and (not found or len(below) > 1):
        level = len(found) + 1
        below = [_over(below[first:last], level) for first, last in _runs([it.digest for it in below], most)]
        found.append(tuple(below))
    return tuple(found)


def _over(children: Sequence[Node], level: int) -> Node:
    digests = tuple(child.digest for child in children)
    # Digests have one length, so their number and order are in the hash as well.
    digest = hashlib.sha256(bytes([level]) + b"".join(digests)).digest()
    return Node(digest, level, digests, children[0].first, children[-1].last)


def _runs(digests: Sequence[bytes], most: int) -> Iterator[tuple[int, int]]:
    """Runs [first, last) of at most ``most`` items."""
    hashes = [hashlib.sha256(digest).digest() for digest in digests]
    first = 0
    for at, width in enumerate(_widths(hashes)):
        if width >= most:
            yield first, at + 1
            first = at + 1
    if first < len(digests):
        yield first, len(digests)


def _widths(hashes: Sequence[bytes]) -> list[int]:
    """For each item, of how many items around it, itself included, it has the least hash."""
    before = _smaller(hashes)
    after = [len(hashes) - 1 - at for at in _smaller(hashes[::-1])][::-1]
    return [after[at] - before[at] - 1 for at in range(len(hashes))]


def _smaller(hashes: Sequence[bytes]) -> list[int]:
    """For each item, where the nearest one before it with a smaller hash is; -1 where there is none."""
    found: list[int] = []
    rising: list[int] = []
    for at, each in enumerate(hashes):
        while rising and hashes[rising[-1]] > each:
            rising.pop()
        found.append(rising[-1] if rising else -1)
        rising.append(at)
    return found
