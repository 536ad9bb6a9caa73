"""The part of one limit that this gateway holds: leased ahead of need, reserved before the work, settled after it.

Invariant: what is reserved was held.  A settlement may find that more was used than was
reserved, since tokens are guessed; then ``held`` is a debt, and nothing more is reserved until
it is paid.  So what was used never exceeds what was leased by more than the guesses of the
work in progress.
"""

from gateway.limits.terms import RATES, Grant, Limit, Unit, Wish

_MINUTE_SECONDS = 60.0
# What is held and not used for so long is given back.
IDLE_SECONDS = 5.0
# How much is held ahead of need: of a minute's limit two seconds, of a month's a thousandth.
_AHEAD = {Unit.REQUESTS: 30, Unit.TOKENS: 30, Unit.MONTH_TOKENS: 1000, Unit.MONTH_MICROS: 1000}
_SPARE_PLACES = 2
# Access is not asked again before this long after it had nothing.
_DRY_SECONDS = 0.1
_LONGEST_DRY_SECONDS = 1.0
_PLACE_SECONDS = 0.25
_MONTH_SECONDS = 5.0


class Meter:
    """What is held of a limit.  Times are monotonic, in seconds."""

    __slots__ = (
        "_alone_at",
        "_dry_until",
        "_needed",
        "_reset_at",
        "_taken",
        "_taken_at",
        "held",
        "limit",
        "remaining",
        "reserved",
    )

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.held = 0
        self.reserved = 0
        # What nobody held when access last spoke.
        self.remaining = limit.amount
        self._reset_at = 0.0
        self._dry_until = 0.0
        # Since the last lease: reserved, and asked for in vain.
        self._taken = 0
        self._needed = 0
        self._taken_at = 0.0
        self._alone_at: float | None = None

    def idle(self, now: float) -> bool:
        """Whether nothing is in progress and nothing was asked for of late."""
        return not self.reserved and not self._needed and now - self._taken_at > IDLE_SECONDS

    def has(self, amount: int, now: float) -> bool:
        """Whether so much may be reserved; who needs nothing of a limit waits for nobody's debt."""
        if self._alone_at is not None:
            self._fill(now)
        return not amount or self.held >= amount

    def reserve(self, amount: int, now: float) -> None:
        """Take it, for work that begins."""
        self.held -= amount
        self.reserved += amount
        self._taken += amount
        self._taken_at = now

    def settle(self, reserved: int, used: int) -> None:
        """End the reservation: what was not used comes back, what was used beyond it is owed."""
        self.reserved -= reserved
        self.held += reserved - used

    def need(self, amount: int) -> None:
        """Remember what could not be reserved."""
        self._needed += amount

    def dry(self, now: float) -> bool:
        """Whether access had nothing a moment ago."""
        return now < self._dry_until

    def low(self) -> bool:
        """Whether it is time to ask for more."""
        return self._needed > 0 or self.held * 2 < self._ahead()

    def wish(self, now: float) -> Wish:
        """What to ask of access now.  What is given back is not held from here on."""
        kept = max(0, self.held)
        if self.idle(now):
            # Others may need it.
            self.held -= kept
            return Wish(self.limit, 0, 0, kept if self.limit.unit in RATES else 0)
        wanted = min(self.limit.amount, max(self._ahead(), self._needed, 2 * self._taken))
        if self.limit.unit is Unit.PLACES:
            wanted = max(self._ahead(), self._needed)
            self.held -= max(0, kept - wanted)
        wish = Wish(self.limit, self.reserved + max(0, self.held), max(0, wanted - self.held), 0)
        self._taken = self._needed = 0
        return wish

    def given(self, wish: Wish, grant: Grant, now: float) -> None:
        """Take what access gave to ``wish``; what was reserved or settled meanwhile stays so."""
        if self._alone_at is not None:
            self._alone_at = None
            # Filled here while access was away; there it has filled too.
            self.held = min(self.held, wish.held - self.reserved if self.limit.unit is Unit.PLACES else 0)
        self.held += grant.granted
        self.remaining = grant.remaining
        self._reset_at = now + grant.reset_seconds
        if grant.granted < wish.wanted:
            self._dry_until = now + self._pause()

    def alone(self, now: float) -> None:
        """Access is away: from now on the limit is kept by this gateway alone."""
        if self._alone_at is None:
            self._alone_at = now
        self._needed = 0

    def reset_seconds(self, now: float) -> float:
        """Until the limit is whole again."""
        return max(0.0, self._reset_at - now)

    def retry_seconds(self, amount: int, now: float) -> float:
        """When so much may be there."""
        unit = self.limit.unit
        if unit in RATES:
            return max(_DRY_SECONDS, (amount - self.held) * _MINUTE_SECONDS / self.limit.amount)
        return _LONGEST_DRY_SECONDS if unit is Unit.PLACES else max(_LONGEST_DRY_SECONDS, self.reset_seconds(now))

    def _ahead(self) -> int:
        share = _AHEAD.get(self.limit.unit)
        if share is None:
            return min(self.limit.amount, _SPARE_PLACES + self.reserved // 2)
        return max(1, self.limit.amount // share)

    def _pause(self) -> float:
        unit = self.limit.unit
        if unit in RATES:
            return min(_LONGEST_DRY_SECONDS, max(_DRY_SECONDS, _MINUTE_SECONDS / self.limit.amount))
        return _PLACE_SECONDS if unit is Unit.PLACES else _MONTH_SECONDS

    def _fill(self, now: float) -> None:
        """Keep the limit alone: let a minute's limit flow in here, and take all places."""
        assert self._alone_at is not None
        amount = self.limit.amount
        if self.limit.unit is Unit.PLACES:
            self.held = amount - self.reserved
        elif self.limit.unit in RATES:
            flowed = int((now - self._alone_at) * amount / _MINUTE_SECONDS)
            if flowed:
                self.held = min(amount, self.held + flowed)
                self._alone_at += flowed * _MINUTE_SECONDS / amount
