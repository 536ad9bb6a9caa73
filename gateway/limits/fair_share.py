"""Weighted fair shares of a gateway's places, decided at once: nobody waits here to be refused.

A tenant may hold as many places as ``_EAGERNESS`` times its weight times those that are
free (the dynamic thresholds of Choudhury and Hahne, "Dynamic Queue Length Thresholds for
Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 6(2), 1998).  Alone it
gets nearly all of them; beside others each is held back in proportion to its weight; and
a part always stays free, so that who comes new is let in.  A place that is held longer
counts longer: shares are of time, so they are of tokens too, whatever the answers' lengths.
The generator's own queue is fair in tokens among those whom this lets through.
"""

from services.chassis.errors import Failure, Reason

_EAGERNESS = 8
_RETRY_SECONDS = 1.0


class FairShare:
    """Counts who holds how many places."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = places
        self._held: dict[str, int] = {}

    def enter(self, tenant: str, weight: int) -> None:
        """Take a place.  Raises OVERLOADED."""
        held = self._held.get(tenant, 0)
        if held >= _EAGERNESS * weight * self._free:
            raise Failure(Reason.OVERLOADED, retry_after_seconds=_RETRY_SECONDS, limit=self._places)
        self._held[tenant] = held + 1
        self._free -= 1

    def leave(self, tenant: str) -> None:
        """Give it back."""
        self._free += 1
        left = self._held[tenant] - 1
        if left:
            self._held[tenant] = left
        else:
            del self._held[tenant]
