"""How fast adapters are served, beside the base alone: ratios of engines that take turns on the same cores.

Six engines start on the default base (bfloat16, eager, rank 16 on all seven projections, prefix caching off): ours
with LoRA disabled and with 4, 32 and 64 slots; stock vLLM with LoRA disabled and with 4 slots.  They stay up side by
side, and in every round each runs each of its tasks once, so that whatever slows the machine slows all of them.  A
ratio is taken within a round, and the median over the rounds is reported.

What compilation gives beside adapters (``COMPILING``) is measured apart, as ours compiled takes minutes to start.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from services.chassis.models import ModelSettings, resolve
from tests.load.generator.engines import Engine, running
from tests.load.generator.shapes import (
    COMPILED,
    FOUR,
    OFF,
    SHAPES,
    SIXTY_FOUR,
    STOCK,
    STOCK_OFF,
    THIRTY_TWO,
    Shape,
    Task,
    decode,
    prefill,
)

Round = dict[tuple[Shape, Task], float]
BATCH = 32


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure: a task on one engine over a task on another, the least that is wanted, and what it says."""

    key: str
    over: tuple[Shape, Task]
    under: tuple[Shape, Task]
    target: float | None
    meaning: str

    def of(self, round_: Round) -> float:
        """Its value in one round."""
        return round_[self.over] / round_[self.under]


_BASE = (OFF, decode(BATCH))
_STOCK_BASE = (STOCK_OFF, decode(BATCH))
RATIOS = (
    Ratio("base_decode_ratio", (FOUR, decode(BATCH)), _BASE, 0.97, "the base beside four resident adapters"),
    Ratio("one_decode_ratio", (FOUR, decode(BATCH, 0)), _BASE, 0.9, "32 requests of one adapter"),
    Ratio("four_decode_ratio", (FOUR, decode(BATCH, 0, 1, 2, 3)), _BASE, 0.8, "32 requests, four adapters in turn"),
    Ratio("one_prefill_ratio", (FOUR, prefill(0)), (OFF, prefill()), 0.95, "8 prompts of 256, one adapter"),
    Ratio("four_prefill_ratio", (FOUR, prefill(0, 1, 2, 3)), (OFF, prefill()), 0.95, "8 prompts of 256, four adapters"),
    Ratio("stock_one_decode_ratio", (STOCK, decode(BATCH, 0)), _STOCK_BASE, None, "what stock vLLM makes of one"),
    Ratio("base_over_stock_ratio", (FOUR, decode(BATCH)), _STOCK_BASE, None, "the base, over stock with LoRA disabled"),
    Ratio(
        "thirty_two_decode_ratio", (THIRTY_TWO, decode(BATCH, *range(32))), _BASE, 0.65, "an adapter for each request"
    ),
    Ratio(
        "slots_64_ratio",
        (SIXTY_FOUR, decode(BATCH, 0, 1, 2, 3)),
        (FOUR, decode(BATCH, 0, 1, 2, 3)),
        0.95,
        "four adapters among 64 slots, over four among four",
    ),
)  # fmt: skip - a line a figure
COMPILING = (
    Ratio("compiled_base_decode_ratio", (COMPILED, decode(BATCH)), _BASE, 1.1, "the base beside four, compiled"),
    Ratio("compiled_one_decode_ratio", (COMPILED, decode(BATCH, 0)), _BASE, None, "32 requests of one adapter"),
    Ratio("compiled_four_decode_ratio", (COMPILED, decode(BATCH, 0, 1, 2, 3)), _BASE, None, "four adapters in turn"),
    Ratio("compiled_base_prefill_ratio", (COMPILED, prefill()), (OFF, prefill()), None, "8 prompts of 256, the base"),
    Ratio(
        "compiled_one_prefill_ratio", (COMPILED, prefill(0)), (OFF, prefill()), None, "8 prompts of 256, one adapter"
    ),
)  # fmt: skip - a line a figure


def measured(asked: Sequence[Ratio], engines: dict[Shape, Engine], rounds: int) -> list[Round]:
    """Run every task of the ratios once a round, each round in another order, after one that warms up."""
    wanted = sorted({side for ratio in asked for side in (ratio.over, ratio.under)}, key=repr)
    taken: list[Round] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=(rounds + 1) * len(wanted))
        for number in range(rounds + 1):
            first = number * len(wanted) // (rounds + 1)
            speeds: Round = {}
            for shape, task in wanted[first:] + wanted[:first]:
                speeds[shape, task] = engines[shape].speed(task)
                progress.advance(bar)
            taken.append(speeds)
    return taken[1:]


def shown(asked: Sequence[Ratio], rounds: Sequence[Round]) -> Table:
    """A line a figure: its median and spread, the target, the speeds behind it and what it says."""
    table = Table("figure", "median", "lowest", "highest", "target", "tokens/s", "over tokens/s", "meaning", box=None)
    for ratio in asked:
        values = [ratio.of(round_) for round_ in rounds]
        speeds = [statistics.median(round_[side] for round_ in rounds) for side in (ratio.over, ratio.under)]
        table.add_row(
            ratio.key,
            *(f"{value:.3f}" for value in (statistics.median(values), min(values), max(values))),
            "" if ratio.target is None else f"{ratio.target:g}",
            *(f"{speed:.0f}" for speed in speeds),
            ratio.meaning,
        )
    return table


def figures(asked: Sequence[Ratio], rounds: int) -> dict[str, float]:
    """Start the engines that the ratios speak of and measure; the median of each by its key.  The table is printed."""
    base = resolve(ModelSettings().base_model).path
    wanted = {shape for ratio in asked for shape, _ in (ratio.over, ratio.under)}
    with tempfile.TemporaryDirectory(prefix="trivium-bench-") as folder:
        with running([shape for shape in SHAPES if shape in wanted], base, Path(folder)) as engines:
            taken = measured(asked, engines, rounds)
    Console(width=160).print(shown(asked, taken))
    return {ratio.key: round(statistics.median(ratio.of(each) for each in taken), 3) for ratio in asked}
