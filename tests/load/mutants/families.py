"""The test files whose sampled families CI runs whole for what is planted in a worktree, by the worktree's own selection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.load.mutants.trees import environment

_PROGRAM = """
import json, sys
from pathlib import Path
from tests.harness.affected.selection import select_families
print(json.dumps(sorted(select_families(sys.argv[1], Path.cwd()).files)))
"""


def samples(tree: Path) -> bool:
    """Whether a tree samples its long families at all."""
    return (tree / "tests" / "harness" / "plugin_sampling.py").is_file()


def whole_files(tree: Path, base: str) -> list[str]:
    """Return the files, within the cap; none where the tree has no such selection."""
    if not (tree / "tests" / "harness" / "affected" / "selection.py").is_file():
        return []
    command = [sys.executable, "-c", _PROGRAM, base]
    finished = subprocess.run(command, cwd=tree, env=environment(tree), check=True, stdout=subprocess.PIPE, text=True)
    files: list[str] = json.loads(finished.stdout.splitlines()[-1])
    return files
