"""What the speed figures are taken on: the default base, rows of random tokens, and how a step is timed."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from services.chassis.models import DEFAULT_BASE, resolve
from services.trainer.data.examples import Example

RANK, ALPHA, RATE = 8, 16, 1e-4


@dataclass(frozen=True, slots=True)
class Time:
    """One step: what the clock on the wall and the processors' clocks say, in seconds."""

    wall_seconds: float
    cpu_seconds: float


def base(dtype: torch.dtype = torch.bfloat16) -> Any:
    """The deployment's default base."""
    return AutoModelForCausalLM.from_pretrained(resolve(DEFAULT_BASE).path, dtype=dtype)


def rows(count: int, tokens: int, *, seed: int = 0) -> list[Example]:
    """Sequences of random tokens, all supervised."""
    drawn = torch.randint(0, 49_000, (count, tokens), generator=torch.Generator().manual_seed(seed))
    return [Example(tuple(row), (True,) * tokens) for row in drawn.tolist()]


def timed(step: Callable[[], object]) -> Time:
    """Run a step once."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return Time(time.perf_counter() - wall, time.process_time() - cpu)


def alternating(steps: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[Time]]:
    """Each step once unmeasured, then `rounds` times in turn, so that what else runs disturbs all alike."""
    for step in steps.values():
        step()
    found: dict[str, list[Time]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(timed(step))
    return found


def ratios(slow: list[Time], fast: list[Time]) -> tuple[float, float, list[float]]:
    """How often the fast one fits into the slow one: median by wall, median by CPU, and each round's by wall."""
    by_wall = [a.wall_seconds / b.wall_seconds for a, b in zip(slow, fast, strict=True)]
    by_cpu = [a.cpu_seconds / b.cpu_seconds for a, b in zip(slow, fast, strict=True)]
    return statistics.median(by_wall), statistics.median(by_cpu), by_wall
