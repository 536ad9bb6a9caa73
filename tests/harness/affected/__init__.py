"""The tests that a change can break: `make affected`, and which families `make test` runs whole in CI."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.harness.affected import owed, selection

ROOT = Path(__file__).resolve().parents[3]


def whole_files(base: str, root: Path = ROOT) -> set[str]:
    """Return the paths of the test files whose families run whole, because what changed since ``base`` can break them.

    Prints how many they are, and the files for which the cap leaves no room: the next soak runs those.
    """
    chosen = selection.select_families(base, root)
    lines = [
        f"{len(chosen.selected)} files run their families whole: changes since {base[:12]} can break them"
        f" ({chosen.lane_seconds:.0f} lane-seconds of {max(chosen.room, 0):.0f})"
    ]
    lines += [f"left to the next soak, for the cap: {each.file} ({each.reason.sentence})" for each in chosen.dropped]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    owed.record(root, base, [each.file for each in chosen.dropped])
    return chosen.files


def base_of_last_soak(root: Path = ROOT) -> str | None:
    """Return the commit whose last soak ran whole; None if none has."""
    return selection.base_of_last_soak(root)
