"""Weighted fair shares of a gateway's places, decided at once: nobody waits here to be refused.

A tenant may hold as many places as ``_EAGERNESS`` times its weight times those that are
free (the dynamic thresholds of Choudhury and Hahne, "Dynamic Queue Length Thresholds for
Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 6(2), 1998).  Alone it
gets nearly all of them; beside others each is held back in proportion to its weight; and
a part always stays free, so that who comes new is let in.

What is shared here is who is let in, not what is served: a place is held in the generator's queue as well, and where
everybody has some waiting there, how many makes no difference to the tokens that anybody gets.  Those are shared in that
queue, by the same weights, which the caller's assertion takes there (``services.generator.admission``).

What a service does for somebody who does not wait for it (a batch) comes behind those who wait: it has a smaller share
of what is free, counted apart, so it grows where nobody else asks and is the first that is refused.
"""

from services.chassis.errors import Failure, Reason

_EAGERNESS = 8
# One of those who do not wait holds at most a fifth of the places, and none where fewer than four are free.
_BACKGROUND_EAGERNESS = 0.25
_RETRY_SECONDS = 1.0


class FairShare:
    """Counts who holds how many places."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = places
        self._held: dict[tuple[str, bool], int] = {}

    def enter(self, tenant: str, weight: int, *, background: bool = False) -> None:
        """Take a place; ``background`` where nobody waits for the answer.  Raises OVERLOADED."""
        holder = (tenant, background)
        held = self._held.get(holder, 0)
        full = held + 1 > _BACKGROUND_EAGERNESS * weight * self._free
        if full if background else held >= _EAGERNESS * weight * self._free:
            raise Failure(Reason.OVERLOADED, retry_after_seconds=_RETRY_SECONDS, limit=self._places)
        self._held[holder] = held + 1
        self._free -= 1

    def leave(self, tenant: str, *, background: bool = False) -> None:
        """Give it back."""
        holder = (tenant, background)
        self._free += 1
        left = self._held[holder] - 1
        if left:
            self._held[holder] = left
        else:
            del self._held[holder]
