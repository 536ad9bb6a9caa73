"""Tells watchers that something of a collection has changed; they look for themselves what."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Changes:
    """One event a collection that is watched.  Invariant: a change after :meth:`next` was called wakes its waiter."""

    _watched: dict[int, asyncio.Event] = field(default_factory=dict)

    def next(self, collection_number: int) -> asyncio.Event:
        """Set at the next change.  Take it before you look."""
        return self._watched.setdefault(collection_number, asyncio.Event())

    def tell(self, collection_number: int) -> None:
        """Something changed, durably."""
        event = self._watched.pop(collection_number, None)
        if event is not None:
            event.set()
