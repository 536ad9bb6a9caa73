"""Which test files can see a fault in a module, nearest first: unit tests of its package, then the others by kind.

``python -m tests.load.mutants.reach TREE`` reads names of modules and prints their test files as JSON.  It is a process of its
own: the tree may be of another commit, whose packages must be found in place of those that this one has imported.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.harness.affected.imports import read_imports
from tests.harness.affected.packages import packages_of
from tests.harness.affected.selection import Affected, affected_tests

# Folders of tests, from what is found soonest to what takes longest.
_KINDS = ("unit", "contract", "conformance", "security", "robustness", "integration")

# It looks at the source itself, and so finds every fault.
_CATALOGUE = "tests/unit/load/test_mutants.py"


def of_tree(root: Path, modules: Iterable[str]) -> dict[str, list[str]]:
    """Return the test files of each module that a tree has: those that import it, or start a service that does."""
    packages = packages_of(root)
    for name in packages.folders:
        sys.modules.pop(name, None)
    imports = read_imports(packages)
    paths = {module: path.relative_to(root).as_posix() for module, path in packages.files()}
    return {
        module: [
            each.file for each in sorted(affected_tests([paths[module]], packages, imports), key=_Nearness(module))
        ]
        for module in modules
        if module in paths
    }


class _Nearness:
    """Sorts test files by how near they are to a module."""

    def __init__(self, module: str) -> None:
        parts = module.split(".")
        # gateway.limits.gate is of the gateway, services.access.keys of access.
        self._folders = parts[:-1] if parts[0] != "services" else parts[1:-1]
        self._name = parts[-1]

    def __call__(self, each: Affected) -> tuple[int, int, bool, int, int, str]:
        """Return by kind, by shared folders, by name, then why and how far the file is affected."""
        _, kind, *folders, name = each.file.split("/")
        shared = 0
        while shared < min(len(self._folders), len(folders)) and self._folders[shared] == folders[shared]:
            shared += 1
        far = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
        return far, -shared, self._name not in name, each.reason, each.distance, each.file


def main() -> None:
    """Answer for the modules on standard input."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.mutants.reach", description=__doc__)
    parser.add_argument("tree", type=Path)
    print(json.dumps(of_tree(parser.parse_args().tree.resolve(), sys.stdin.read().split())))


if __name__ == "__main__":
    main()
