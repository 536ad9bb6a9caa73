"""Jobs that differ in all that may differ on one base: ranks, methods, objectives, lengths, rates, schedules, steps.

Invariant: the same numbers draw the same jobs, so that a job can be trained again in other company.
"""

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.trainer.settings import Initialisation, Keep, Method, Objective, Schedule, Settings
from services.trainer.work import Work
from tests.load.trainer.workers import Base

WORDS = (
    "door",
    "key",
    "shop",
    "bell",
    "ladder",
    "river",
    "stone",
    "paper",
    "window",
    "garden",
    "letter",
    "market",
    "winter",
    "harbour",
    "engine",
    "copper",
    "orange",
    "table",
    "bridge",
    "candle",
    "cotton",
    "dragon",
    "forest",
    "hammer",
    "island",
    "jacket",
    "kitchen",
    "lemon",
    "mirror",
    "needle",
    "office",
    "pencil",
    "rabbit",
    "silver",
    "ticket",
    "valley",
    "wagon",
    "yellow",
    "anchor",
    "basket",
)
_TARGETS = ((), ("q_proj", "v_proj"), ("gate_proj", "up_proj", "down_proj"))


@dataclass(frozen=True, slots=True)
class Drawn:
    """One job: its name, its settings, its rows."""

    name: str
    settings: Settings
    rows: tuple[dict[str, Any], ...]

    def write(self, root: Path, base: Base, threads: int) -> Path:
        """Write its order with its rows beside it; return the job's folder."""
        folder = root / "jobs" / self.name
        folder.mkdir(parents=True)
        data = folder.with_suffix(".jsonl")
        data.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        Work(str(base.path), base.name, str(data), self.settings, threads, str(root), base_digest=base.digest).write(
            folder
        )
        return folder


def mixture(count: int, *, seed: int = 1) -> list[Drawn]:
    """So many jobs; of each ten two learn preferences and one continues on plain text."""
    return [_drawn(number, random.Random(seed * 10_000 + number)) for number in range(count)]


def words(draw: random.Random, least: int, most: int) -> str:
    """A sentence of so many words, about as many tokens."""
    return " ".join(draw.choices(WORDS, k=draw.randint(least, most))).capitalize() + "."


def _drawn(number: int, draw: random.Random) -> Drawn:
    rank = (4, 8, 16, 32)[number % 4]
    settings = Settings(
        method=draw.choice((Method.LORA, Method.LORA, Method.RSLORA)),
        rank=rank,
        alpha=float(draw.choice((rank, 2 * rank))),
        dropout=draw.choice((0.0, 0.0, 0.1)),
        target_modules=draw.choice(_TARGETS),
        initialisation=draw.choice(tuple(Initialisation)),
        batch_rows=draw.randint(1, 4),
        learning_rate=10 ** draw.uniform(-4, -2.5),
        schedule=draw.choice(tuple(Schedule)),
        weight_decay=draw.choice((0.0, 0.1)),
        warmup_ratio=draw.choice((0.0, 0.3)),
        max_steps=draw.randint(3, 6),
        epochs=10,
        checkpoint_steps=draw.randint(1, 3),
        max_row_tokens=128,
        # The smaller one splits the steps of long rows.
        micro_batch_tokens=draw.choice((96, 2048)),
        seed=number,
    )
    most = draw.choice((8, 20, 50))
    asked = [words(draw, 3, 12) for _ in range(10)]
    match number % 10:
        case 3:
            pairs = tuple(
                {"prompt": ask, "chosen": words(draw, 3, most), "rejected": words(draw, 3, most)} for ask in asked
            )
            return Drawn(f"job-{number}", replace(settings, objective=Objective.DPO), pairs)
        case 6:
            judged = tuple(
                {"prompt": ask, "completion": words(draw, 3, most), "label": place % 2 == 0}
                for place, ask in enumerate(asked)
            )
            kto = replace(settings, objective=Objective.KTO, batch_rows=max(2, settings.batch_rows))
            return Drawn(f"job-{number}", kto, judged)
        case 8:
            texts = tuple({"text": words(draw, 10, 80)} for _ in asked)
            return Drawn(f"job-{number}", replace(settings, objective=Objective.CONTINUED), texts)
    if number % 5 == 1:
        settings = replace(settings, validation_ratio=0.2, evaluation_steps=2, keep=Keep.BEST)
    rows = tuple({"prompt": ask, "completion": words(draw, 3, most)} for ask in asked)
    return Drawn(f"job-{number}", settings, rows)
