"""Recorded lane-seconds of test files, sampled and whole, and the cap within which families run whole.

`tests/recorded_seconds.json` holds them.  ``python -m tests.harness.affected.costs TIMING.json`` takes over what a run of
`make test` with ``--timing-json`` measured; ``--whole`` what a run with ``--whole`` did, which `make soak` does by itself.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.harness import yardstick
from tests.harness.plugin_sampling import sampled_files

RECORD = Path("tests/recorded_seconds.json")
_BUDGET = Path("tests/budget.toml")
_DEFAULT_CAP_LANE_SECONDS = 3000.0
# The default cost of a test in a file that was never measured.
_DEFAULT_TEST_SECONDS = 0.5
_TEST = re.compile(r"^\s*(?:async )?def test_", re.MULTILINE)
_EVERY = re.compile(r"\bevery\s*=\s*(\d+)")
# A run that exceeds the cap fails, and estimates err: one commit cost 2,445 lane-seconds on one machine and 3,243 on another
# whose yardstick was faster, where 2,700 were estimated.
_FILLED_SHARE = 0.7
# Collection in each lane, which is no file's.
_COLLECTION_LANE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Lane-seconds of a test file: in a run that samples its families, and in one that runs them whole."""

    sampled: float
    whole: float

    @property
    def extra(self) -> float:
        """Return what running its families whole adds."""
        return max(self.whole - self.sampled, 0.0)


@dataclass(frozen=True, slots=True)
class Record:
    """The recorded seconds; ``sampled`` or ``whole`` is absent if it was never measured."""

    files: Mapping[str, Mapping[str, float]]

    def cost(self, file: Path, path: str) -> Cost:
        """Return the cost of a file, estimated from its text where it was not measured."""
        recorded = self.files.get(path, {})
        sampled, whole = recorded.get("sampled"), recorded.get("whole")
        if sampled is None or whole is None:
            text = file.read_text(errors="replace")
            listed = sampled_files(file.parents[path.count("/")]).get(path, 1)
            every = max((int(each) for each in _EVERY.findall(text)), default=listed)
            if sampled is None:
                sampled = whole / every if whole is not None else _DEFAULT_TEST_SECONDS * len(_TEST.findall(text))
            if whole is None:
                whole = sampled * every
        return Cost(sampled, max(whole, sampled))

    def updated(self, measured: Mapping[str, float], kind: str) -> Record:
        """Return the record with what a run measured; ``kind`` is `sampled` or `whole`."""
        files = {path: dict(seconds) for path, seconds in self.files.items()}
        for path, seconds in measured.items():
            files.setdefault(path, {})[kind] = round(seconds, 1)
        return replace(self, files=files)

    def write(self, root: Path) -> None:
        """Write the record of the files that are still there, a line each."""
        kept = sorted((path, seconds) for path, seconds in self.files.items() if (root / path).is_file())
        lines = ",\n".join(f" {json.dumps(path)}: {json.dumps(seconds)}" for path, seconds in kept)
        (root / RECORD).write_text(f"{{\n{lines}\n}}\n")


def read_record(root: Path) -> Record:
    """Read the record; it is empty if the file does not exist."""
    file = root / RECORD
    return Record(json.loads(file.read_text()) if file.is_file() else {})


def cap_lane_seconds(root: Path) -> float:
    """Return what `make test` may cost."""
    budget = root / _BUDGET
    if not budget.is_file():
        return _DEFAULT_CAP_LANE_SECONDS
    return float(tomllib.loads(budget.read_text())["cap_lane_seconds"])


def room(root: Path) -> float:
    """Return the lane-seconds that tests may take: the cap less collection and a margin for errors of estimates."""
    return cap_lane_seconds(root) * _FILLED_SHARE - _COLLECTION_LANE_SECONDS


def measured_seconds(timing: Mapping[str, Any]) -> dict[str, float]:
    """Return the lane-seconds of each file of a ``--timing-json``, by this machine's yardstick."""
    scale = yardstick.REFERENCE_SECONDS / yardstick.seconds()
    return {path: taken["processor"] * scale for path, taken in timing["files"].items()}


def main(arguments: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Take over measured seconds."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.affected.costs", description=__doc__)
    parser.add_argument("timing", nargs="+", type=Path, help="a file that --timing-json wrote")
    parser.add_argument("--whole", action="store_true", help="the run was whole")
    asked = parser.parse_args(arguments)
    root = root or Path(__file__).resolve().parents[3]
    record = read_record(root)
    for timing in asked.timing:
        record = record.updated(measured_seconds(json.loads(timing.read_text())), "whole" if asked.whole else "sampled")
    record.write(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
