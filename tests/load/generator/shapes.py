"""The engines that are compared: one base, one machine, one way of measuring, different ways of serving adapters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Build(StrEnum):
    """Whose engine it is."""

    OURS = "ours"
    STOCK = "stock vLLM"


@dataclass(frozen=True, slots=True)
class Shape:
    """One engine: whose, with how many slots (LoRA is disabled without any), the ranks of the resident adapters.

    It runs eagerly unless ``compiled``.
    """

    name: str
    build: Build
    ranks: tuple[int, ...] = ()
    slots: int = 0
    compiled: bool = False


OFF = Shape("off", Build.OURS)
STOCK_OFF = Shape("stock_off", Build.STOCK)
FOUR = Shape("four", Build.OURS, ranks=(16,) * 4, slots=4)
STOCK = Shape("stock", Build.STOCK, ranks=(16,), slots=4)
THIRTY_TWO = Shape("thirty_two", Build.OURS, ranks=(8, 16) * 16, slots=32)
SIXTY_FOUR = Shape("sixty_four", Build.OURS, ranks=(16,) * 4, slots=64)
COMPILED = Shape("compiled", Build.OURS, ranks=(16,) * 4, slots=4, compiled=True)
SHAPES = (OFF, FOUR, STOCK_OFF, STOCK, THIRTY_TWO, SIXTY_FOUR, COMPILED)


@dataclass(frozen=True, slots=True)
class Task:
    """One measurement of one engine.

    ``wears`` has, for each request of the batch, the adapter's place among the resident ones; -1 is the base.
    With ``new_tokens`` 1 it is a prefill, measured in prompt tokens a second, else a decode, measured in new tokens
    a second while every request of the batch runs.
    """

    wears: tuple[int, ...]
    prompt_tokens: int
    new_tokens: int


def decode(batch: int, *adapters: int) -> Task:
    """A batch that decodes, its requests wearing the adapters in turn."""
    return Task(_in_turn(batch, adapters), prompt_tokens=16, new_tokens=64)


def prefill(*adapters: int) -> Task:
    """Eight prompts of 256 tokens."""
    return Task(_in_turn(8, adapters), prompt_tokens=256, new_tokens=1)


def _in_turn(batch: int, adapters: tuple[int, ...]) -> tuple[int, ...]:
    worn = adapters or (-1,)
    return tuple(worn[index % len(worn)] for index in range(batch))
