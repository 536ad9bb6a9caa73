"""The tests that a change can break: `make affected`, and which families `make test` runs whole in CI."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.harness.affected import selection

ROOT = Path(__file__).resolve().parents[3]


def whole_files(base: str | None, root: Path = ROOT) -> set[str]:
    """Return the paths of the test files whose families run whole, because what changed since ``base`` can break them.

    Without a base, changes count since the last soak of each file; a file that no soak has run whole is sampled.  Prints
    how many they are, and the files for which the cap leaves no room: the next soak runs those.
    """
    chosen = selection.select_families(base, root)
    since = base[:12] if base else "their last soak"
    lines = [
        f"{len(chosen.selected)} files run their families whole: changes since {since} can break them"
        f" ({chosen.lane_seconds:.0f} lane-seconds of {max(chosen.room, 0):.0f})"
    ]
    lines += [f"left to the next soak, for the cap: {each.file} ({each.reason.sentence})" for each in chosen.dropped]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return chosen.files
