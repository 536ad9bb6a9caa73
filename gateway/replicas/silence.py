"""A replica that takes requests and says nothing: its connection stands, its event loop lives, and its engine hangs.

Whether a request was left without a word for too long is told by what the replica does and by what the others do, and never
by how long a caller would wait: a small deadline that passes proves nothing.

Invariant: silence lasts from when a request was sent, or the replica last said or did anything for anybody if that is later.
It is too long after several times what first messages took lately, and after ``LEAST_SECONDS`` at the soonest and
``ALONE_SECONDS`` at the latest, however long those that came back from a hang had taken; where no other replica has spoken to
anything that was sent since, which may be for all of them being busy, not before ``ALONE_SECONDS``.  What nobody waits for
may wait behind all others, so that it says nothing of how long a first message takes.  All this is what one gateway hears: it
knows nothing of what a replica says to another's callers.
"""

import math
from collections import deque
from collections.abc import Callable

LEAST_SECONDS = 5.0
ALONE_SECONDS = 30.0
# First messages that count as lately, over all replicas; how many of them are the usual, and how often that is too long.
KEPT = 64
_USUAL = 0.95
_TIMES = 3.0


class Voices:
    """When each replica of a fleet last spoke, and how long their first messages took.  ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waits: deque[float] = deque(maxlen=KEPT)
        self._active: dict[str, float] = {}
        # By address, when the newest request was sent that was answered with anything.
        self._heeded: dict[str, float] = {}

    def now(self) -> float:
        """As of the clock."""
        return self._clock()

    def active(self, address: str) -> None:
        """A replica said something, or did something that it was asked for."""
        self._active[address] = self._clock()

    def heeded(self, address: str, sent: float, *, awaited: bool = True) -> None:
        """A replica said its first word to what was sent then; ``awaited`` is whether somebody waited for it."""
        if awaited:
            self._waits.append(self._clock() - sent)
        self._heeded[address] = max(sent, self._heeded.get(address, sent))

    def forget(self, address: str) -> None:
        """The replica has gone."""
        self._active.pop(address, None)
        self._heeded.pop(address, None)

    def too_long(self, address: str, sent: float) -> bool:
        """Whether the replica should have said something by now to what was sent then."""
        since = max(sent, self._active.get(address, sent))
        others = any(newest >= since for other, newest in self._heeded.items() if other != address)
        usual = _TIMES * self._usual()
        patience = min(ALONE_SECONDS, max(LEAST_SECONDS, usual)) if others else max(ALONE_SECONDS, usual)
        return self._clock() - since >= patience

    def _usual(self) -> float:
        waits = sorted(self._waits)
        return waits[math.ceil(_USUAL * len(waits)) - 1] if waits else 0.0


class Request:
    """One request that a replica was sent; its identity is what counts.  ``awaited`` is whether anybody waits for it."""

    __slots__ = ("awaited", "heeded", "sent")

    def __init__(self, sent: float, *, awaited: bool) -> None:
        self.sent = sent
        self.awaited = awaited
        self.heeded = False


class Silence:
    """What one replica was sent and has not said a word to."""

    def __init__(self, address: str, voices: Voices) -> None:
        self._address = address
        self._voices = voices
        # The oldest first.
        self._unheeded: list[Request] = []

    def asked(self, *, awaited: bool = True) -> Request:
        """It is sent a request, which whoever sends it ends."""
        request = Request(self._voices.now(), awaited=awaited)
        self._unheeded.append(request)
        return request

    def spoke(self, request: Request) -> None:
        """It said something to the request."""
        self._voices.active(self._address)
        if not request.heeded:
            self.refused(request)
            self._voices.heeded(self._address, request.sent, awaited=request.awaited)

    def refused(self, request: Request) -> None:
        """It answered with an error: that is a word too, though none of its engine."""
        if not request.heeded:
            request.heeded = True
            self._unheeded.remove(request)

    def moved(self) -> None:
        """It told of something that it had done: a version loaded, an engine started."""
        self._voices.active(self._address)

    def ended(self, request: Request) -> bool:
        """The request has ended.  True where it was left without a word for too long, whoever gave it up."""
        if request.heeded:
            return False
        self._unheeded.remove(request)
        return self._voices.too_long(self._address, request.sent)

    @property
    def too_long(self) -> bool:
        """Whether it leaves somebody without a word for too long now: nothing more is sent there meanwhile."""
        return bool(self._unheeded) and self._voices.too_long(self._address, self._unheeded[0].sent)
