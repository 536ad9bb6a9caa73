"""What base, few-shot prompts, LoRA and full fine-tuning answer on public sets: ``python -m tests.load.finetune_quality``.

The trainer trains, over gRPC and the SDK, on SmolLM2-135M; rates are swept alike for both methods and chosen on
validation rows.  `--set` names one set, 40 to 80 minutes on two cores; `--scale 0.02` takes a few minutes.  What
is done is kept below `--state`: killed and started again, the benchmark goes on.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.ops.cache import CHECKOUT, cache_dir
from tests.load.finetune_quality.comparison import Compared, Way, compared
from tests.load.finetune_quality.rows import QualitySet
from tests.load.finetune_quality.scores import Interval
from tests.load.finetune_quality.sets import SETS
from tests.load.finetune_quality.state import State
from tests.load.finetune_quality.training import BATCH_ROWS, FACTORS, RANK

_MIB = 1024**2


def told(task: QualitySet, found: Compared, seed: int) -> None:
    """Print a set's table and what it means."""
    title = (
        f"{task.name}: {len(task.training)} rows, {task.epochs} epochs, seed {seed}, {len(task.test)} rows asked, "
        f"{found.seconds / 60:.0f} min of this run"
    )
    table = Table(title=title)
    for column in ("", *_first(found).measured.figures, *_COSTS):
        table.add_column(column, justify="left" if not column else "right")
    for name, way in found.ways.items():
        table.add_row(name, *(f"{figure:.3f}" for figure in way.measured.figures.values()), *_costs(way))
    Console(width=max(160, Console().width)).print(table)
    headline = _first(found).measured.headline.name
    print(f"LoRA minus full, {headline}: {_told(found.interval)} (95 %, paired over the rows asked)")
    if found.people is not None:
        print(f"the set's own answers, counted alike: {found.people.value:.3f}")
    if found.floor is not None:
        print(f"TF-IDF and a linear SVM on the same rows: {found.floor.value:.3f}")
    for method, interval in found.over_floor.items():
        print(f"{method} minus that floor, {headline}: {_told(interval)}: {interval.verdict}")


_COSTS = ("rate", "train s", "CPU s", "peak MiB", "answer s", "CPU s ", "peak MiB ", "stored", "trainable")


def _costs(way: Way) -> list[str]:
    stored = f"{way.stored_bytes / _MIB:.1f} MiB" if way.rate else f"{way.stored_bytes} B"
    return [
        f"{way.rate:g}" if way.rate else "-",
        f"{way.train_seconds:.0f}",
        f"{way.train_cpu_seconds:.0f}",
        f"{way.train_peak_bytes / _MIB:.0f}",
        f"{way.answer_seconds:.0f}",
        f"{way.answer_cpu_seconds:.0f}",
        f"{way.answer_peak_bytes / _MIB:.0f}",
        stored,
        f"{way.trainable_parameters:,}",
    ]


def _told(interval: Interval) -> str:
    return f"{interval.difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _first(found: Compared) -> Way:
    return next(iter(found.ways.values()))


def figures(task: QualitySet, found: Compared) -> dict[str, object]:
    """A set's figures for the line of JSON."""
    ways = {
        name: {
            **{figure: round(value, 4) for figure, value in way.measured.figures.items()},
            **{cost: round(getattr(way, cost), 7) for cost in Way.__slots__ if cost != "measured"},
        }
        for name, way in found.ways.items()
    }
    return {
        "rows": len(task.training),
        "asked": len(task.test),
        "epochs": task.epochs,
        "ways": ways,
        "lora_minus_full": _rounded(found.interval),
        **({"floor": round(found.floor.value, 4)} if found.floor else {}),
        **{f"{way}_minus_floor": _rounded(interval) for way, interval in found.over_floor.items()},
        **({"people": round(found.people.value, 4)} if found.people else {}),
        "seconds": round(found.seconds),
    }


def _rounded(interval: Interval) -> list[float]:
    return [round(each, 4) for each in (interval.difference, interval.low, interval.high)]


def _stopped(*_: object) -> None:
    sys.exit("stopped; the same command goes on from here")


def main() -> None:
    """Run the sets that are asked for, print a table of each, end with one line of JSON."""
    parser = argparse.ArgumentParser(
        "finetune_quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", choices=SETS, dest="sets", help="one set, or several; default: all")
    parser.add_argument("--data", type=Path, default=CHECKOUT.parent / "shared" / "data", help="folder of the sets")
    parser.add_argument("--state", type=Path, default=cache_dir() / "finetune-quality", help="folder of what is done")
    parser.add_argument("--scale", type=float, default=1.0, help="share of each set's rows")
    parser.add_argument("--seed", type=int, default=0, help="of which rows are taken, and of training")
    asked = parser.parse_args()
    # In order, as after Ctrl-C: the trainer writes a checkpoint before it ends.
    signal.signal(signal.SIGTERM, _stopped)
    folder = asked.state / f"scale-{asked.scale:g}-seed-{asked.seed}"
    outcome: dict[str, object] = {}
    for name in asked.sets or SETS:
        if not asked.data.is_dir():
            sys.exit(f"{asked.data} is not there: name the folder of the public sets with --data")
        task = SETS[name](asked.data, asked.scale, asked.seed)
        print(
            f"--- {name}: seed {asked.seed}, {task.epochs} epochs of {len(task.training)} rows in batches of {BATCH_ROWS}, "
            f"LoRA of rank {RANK} on all linear layers, {len(FACTORS)} rates a method, {os.cpu_count()} cores",
            flush=True,
        )
        found = compared(task, State(folder / name), folder / "suite", asked.seed)
        told(task, found, asked.seed)
        outcome[name] = figures(task, found)
    print(json.dumps({"benchmark": "finetune_quality", "seed": asked.seed, "scale": asked.scale, "sets": outcome}))


if __name__ == "__main__":
    main()
