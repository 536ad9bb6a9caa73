"""What a tenant may use, and what one request would use of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from gateway.policy.nouns import ContentPolicy

_MILLION = 1_000_000
# A token of English has four characters or so; a turn's frame costs a few tokens; what is guessed wrong is settled.
_CHARACTERS_A_TOKEN = 4
_FRAME_TOKENS = 4
_SOURCE_TOKENS = 200


class Unit(IntEnum):
    """What a limit counts; the numbers are the wire's."""

    REQUESTS = 1
    TOKENS = 2
    PLACES = 3
    MONTH_TOKENS = 4
    MONTH_MICROS = 5


# Limits a minute, which fill evenly.
RATES = frozenset({Unit.REQUESTS, Unit.TOKENS})
MONTHS = frozenset({Unit.MONTH_TOKENS, Unit.MONTH_MICROS})


@dataclass(frozen=True, slots=True)
class Price:
    """Millionths of a unit of money for a million tokens of a model; an empty model prices all others."""

    model: str
    prompt_micros: int
    completion_micros: int


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: ``scope`` is empty for the tenant's own, else ``key:ID``, ``model:NAME`` or ``project:ID``."""

    scope: str
    unit: Unit
    amount: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request would use, or used: tokens, of the model that it names, without alias or version.

    ``answers`` is the model that answers, once that is known; it is that one's tokens that cost.
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    answers: str = ""

    @property
    def models(self) -> frozenset[str]:
        """Those whose limits it falls under: the model that is named, and the one that answers."""
        return frozenset({self.model, self.answers or self.model})


# Of what is computed for a request that says nothing of a model: it is one request, and no tokens of anybody's.
ONE_REQUEST = Demand("", 0, 0)


def guessed_tokens(texts: Iterable[str], sources: int = 0) -> int:
    """Tokens of so many texts and passages."""
    return sum(len(text) // _CHARACTERS_A_TOKEN + _FRAME_TOKENS for text in texts) + sources * _SOURCE_TOKENS


@dataclass(frozen=True, slots=True)
class Terms:
    """The limits of a tenant, its weight under overload, its prices, and its content policy, None where it has none."""

    limits: tuple[Limit, ...] = ()
    prices: tuple[Price, ...] = ()
    weight: int = 1
    policy: ContentPolicy | None = None

    def needs(self, scopes: frozenset[str], demand: Demand) -> Iterator[tuple[Limit, int]]:
        """The limits that a request falls under, and what it takes of each: at most all of it, or it never could."""
        for limit in self.limits:
            if limit.scope in scopes:
                yield limit, min(limit.amount, self.amount(limit.unit, demand))

    def amount(self, unit: Unit, demand: Demand) -> int:
        """What a request uses in a unit."""
        if unit in (Unit.REQUESTS, Unit.PLACES):
            return 1
        if unit is Unit.MONTH_MICROS:
            return self.cost(demand)
        return demand.prompt_tokens + demand.completion_tokens

    def cost(self, demand: Demand) -> int:
        """Micros that tokens cost, rounded up."""
        by_model = {price.model: price for price in self.prices}
        price = by_model.get(demand.answers or demand.model) or by_model.get("")
        if price is None:
            return 0
        micros = demand.prompt_tokens * price.prompt_micros + demand.completion_tokens * price.completion_micros
        return -(-micros // _MILLION)


@dataclass(frozen=True, slots=True)
class Wish:
    """What this gateway holds of a limit, how much more it wants, what it gives back unused."""

    limit: Limit
    held: int
    wanted: int
    returned: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What it was given; ``remaining`` is what nobody holds then."""

    scope: str
    unit: Unit
    granted: int
    remaining: int
    reset_seconds: float


class Allowances(Protocol):
    """Access as the limits use it.  Raises Failure."""

    async def lease(self, asked: Sequence[tuple[str, Sequence[Wish]]]) -> list[tuple[Terms, list[Grant]]]:
        """Terms and grants of each tenant, in the order asked."""
