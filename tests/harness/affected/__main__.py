"""`make affected BASE=rev`: print, or run with all their cases, the tests that the changes since a revision can break."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.harness.affected import ROOT
from tests.harness.affected.selection import Selection, select
from tests.harness.repository import UnknownRevision


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Print the selection; with ``--run``, run it and return pytest's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.affected", description=__doc__)
    parser.add_argument("--base", required=True, metavar="REV", help="the commit since which changes count")
    parser.add_argument("--run", action="store_true", help="run them, every case of every family")
    parser.add_argument("--lanes", type=int, default=int(os.environ.get("LANES") or 2), help="tests at a time")
    asked = parser.parse_args(arguments)
    try:
        selection = select(asked.base, root)
    except UnknownRevision as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(_text(selection))
    sys.stdout.flush()
    if not asked.run or not selection.selected:
        return 0
    return _run(sorted(selection.files), root, asked.lanes)


def _text(selection: Selection) -> str:
    lines = [f"{each.file:64} {each.reason.sentence}" for each in selection.selected]
    lines += [f"{each.file:64} left to the next soak, for the cap" for each in selection.dropped]
    lines.append(
        f"{len(selection.selected)} files, about {selection.lane_seconds:.0f} lane-seconds of {selection.room:.0f};"
        f" {len(selection.dropped)} left to the next soak"
    )
    return "".join(f"{line}\n" for line in lines)


def _run(files: Sequence[str], root: Path, lanes: int) -> int:
    command = [sys.executable, "-m", "pytest", "--whole", *files]
    if lanes > 1 and len(files) > 1:
        command += [f"-n{lanes}", "--dist=loadscope", "--no-loadscope-reorder"]
    return subprocess.run(command, cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())
