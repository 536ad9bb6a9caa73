"""The stored figures: one JSON file, by benchmark the figures of each hardware, and what they were before.

Each record names its command, hardware and commit.  ``was`` has earlier figures with where they come from: they are shown
beside the present ones, so that figures that are stored anew after a fall do not hide it.  Nothing is compared with them.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.ops.cache import CHECKOUT
from tests.load.bench_check.benchmarks import Better, Key

PATH = CHECKOUT / "docs" / "figures" / "bench_check.json"


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure's values, one a run."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def lowest(self) -> float:
        """The lowest value."""
        return min(self.values)

    @property
    def highest(self) -> float:
        """The highest value."""
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Record:
    """Figures of one benchmark by key, with what they were taken by and on; ``busy`` is the load by others before a run."""

    command: str
    hardware: str
    commit: str
    busy: tuple[float, ...]
    figures: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Earlier:
    """Medians of an earlier commit; ``source`` says where they come from."""

    commit: str
    hardware: str
    source: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored figures of one benchmark: a record for each hardware, oldest first."""

    measured: tuple[Record, ...] = ()
    was: tuple[Earlier, ...] = ()

    def record(self, hardware: str) -> Record | None:
        """Return the record of this hardware, else the last one of another."""
        same = [record for record in self.measured if record.hardware == hardware]
        return next(iter(same or self.measured[::-1]), None)

    def best(self, key: Key) -> tuple[float, str] | None:
        """Return the best earlier value and its commit."""
        found = [(earlier.figures[key.name], earlier.commit) for earlier in self.was if key.name in earlier.figures]
        if not found:
            return None
        return (max if key.better is Better.HIGHER else min)(found, key=lambda pair: pair[0])

    def with_record(self, record: Record) -> Stored:
        """Return this with the record in place of the one of its hardware, whose medians join ``was``."""
        replaced = [each for each in self.measured if each.hardware == record.hardware]
        kept = tuple(each for each in self.measured if each.hardware != record.hardware)
        was = tuple(_earlier(each) for each in replaced if each.commit != record.commit)
        return Stored((*kept, record), (*self.was, *was))


def _earlier(record: Record) -> Earlier:
    medians = {name: spread.median for name, spread in record.figures.items()}
    return Earlier(record.commit, record.hardware, f"stored by {record.command}", medians)


def load(path: Path) -> dict[str, Stored]:
    """Return what is stored, by benchmark; nothing where there is no file."""
    if not path.exists():
        return {}
    return {name: _parsed(entry) for name, entry in json.loads(path.read_text()).items()}


def save(path: Path, stored: Mapping[str, Stored]) -> None:
    """Replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: _written(stored[name]) for name in sorted(stored)}, indent=2, ensure_ascii=False)
    partial = path.with_suffix(".partial")
    partial.write_text(f"{text}\n")
    os.replace(partial, path)


def _parsed(entry: Mapping[str, Any]) -> Stored:
    measured = [
        Record(
            each["command"],
            each["hardware"],
            each["commit"],
            tuple(each["busy"]),
            {name: Spread(tuple(figure["values"])) for name, figure in each["figures"].items()},
        )
        for each in entry.get("measured", ())
    ]
    was = [Earlier(each["commit"], each["hardware"], each["source"], each["figures"]) for each in entry.get("was", ())]
    return Stored(tuple(measured), tuple(was))


def _written(stored: Stored) -> dict[str, Any]:
    return {
        "measured": [
            {
                "command": record.command,
                "hardware": record.hardware,
                "commit": record.commit,
                "busy": list(record.busy),
                "figures": {name: _spread(spread.values) for name, spread in record.figures.items()},
            }
            for record in stored.measured
        ],
        "was": [
            {"commit": each.commit, "hardware": each.hardware, "source": each.source, "figures": dict(each.figures)}
            for each in stored.was
        ],
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    # Median and spread are for people: what is compared is made of the values.
    return {
        "median": float(f"{statistics.median(values):.4g}"),
        "spread": [min(values), max(values)],
        "values": list(values),
    }
