"""Collections whose embedding model is not there for now.

A model comes back by somebody's hand (restored, served again) or the collection goes to
another.  Invariant: until then its documents wait and hold up no others, and each wait is
twice the one before, up to a bound; nothing of it outlives the process, so a start tries all.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

_FIRST_SECONDS = 0.2


def _later(seconds: float, back: Callable[[int], None], collection: int) -> None:
    asyncio.get_running_loop().call_later(seconds, back, collection)


@dataclass(slots=True)
class Aside:
    """Which collections are left alone.  ``again`` is called whenever one may be tried again.

    ``later`` calls a function with a collection's number after so many seconds.
    """

    most_seconds: float
    again: Callable[[], None]
    later: Callable[[float, Callable[[int], None], int], None] = _later
    # By collection: how long the next wait is.
    _next_seconds: dict[int, float] = field(default_factory=dict)
    _out: set[int] = field(default_factory=set)

    @property
    def collections(self) -> frozenset[int]:
        """Numbers of those to leave alone now."""
        return frozenset(self._out)

    def put(self, collection: int) -> None:
        """Leave it alone for a while; what another worker found at the same time counts once."""
        if collection in self._out:
            return
        seconds = self._next_seconds.get(collection, min(_FIRST_SECONDS, self.most_seconds))
        self._next_seconds[collection] = min(seconds * 2, self.most_seconds)
        self._out.add(collection)
        self.later(seconds, self._back, collection)

    def served(self, collection: int) -> None:
        """Its model is there."""
        self._next_seconds.pop(collection, None)

    def _back(self, collection: int) -> None:
        self._out.discard(collection)
        self.again()
