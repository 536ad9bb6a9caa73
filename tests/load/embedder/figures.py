"""What the parts share: what they measure with, and how figures are told."""

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.load.embedder.local import Models
from tests.load.embedder.served import Service

Figures = dict[str, Any]
Way = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Bench:
    """Ours and the peer in this process, ours as a service, and how much is measured."""

    models: Models
    service: Service | None
    rounds: int
    texts: int
    seconds: float

    @property
    def served(self) -> Service:
        """The service."""
        assert self.service is not None
        return self.service


async def alternating(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """Seconds that each way takes in each round, one after the other; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            await way()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float]) -> Figures:
    """Median over the rounds of theirs by ours, which is above 1 where ours takes less time, and its spread."""
    found = [their / our for our, their in zip(ours, theirs, strict=True)]
    return {name: statistics.median(found), f"{name}_spread": [min(found), max(found)]}


def table(title: str, seconds: Mapping[str, Sequence[float]], unit: str, amount: float) -> None:
    """A table for people: how many of ``unit`` each way does in a second."""
    print(f"\n{title:44}{unit + '/s (median)':>22}{'spread':>22}")
    for name, found in seconds.items():
        rates = [amount / each for each in found]
        spread = f"{min(rates):,.0f}..{max(rates):,.0f}"
        print(f"{name:44}{statistics.median(rates):>22,.0f}{spread:>22}")


def rounded(value: Any) -> Any:
    """Numbers as a reader wants them: four places, six for what is nearly one."""
    if isinstance(value, float):
        return round(value, 6 if 0.99 < value < 1 else 4)
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value
