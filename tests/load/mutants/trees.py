"""Worktrees of one commit: those in which faults are planted, and a clean one.

Invariant: what runs in a worktree imports the worktree's own packages, in child processes too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from services.ops.cache import CHECKOUT, cache_dir

CLEAN = "clean"
_PACKAGES = ("services", "gateway", "trivium_client", "trivium", "tests")
_WHERE = f"import json, importlib; print(json.dumps([importlib.import_module(n).__file__ for n in {_PACKAGES!r}]))"


class Foreign(Exception):
    """A process in a worktree imports packages from elsewhere."""


@dataclass(frozen=True, slots=True)
class Trees:
    """The worktrees of one commit, in a folder of the cache beside what tests look for beside a checkout."""

    commit: str
    folder: Path

    @classmethod
    def of(cls, commit: str) -> Trees:
        """Return the worktrees of a commit."""
        return cls(commit, cache_dir() / "mutants" / "trees" / commit[:12])

    def open(self, name: str) -> Path:
        """Make the worktree, or find the one that an earlier turn made, and set it back.  Raises Foreign."""
        tree = self.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        _link(self.folder / "shared", CHECKOUT.parent / "shared")
        if not (tree / ".git").exists():
            shutil.rmtree(tree, ignore_errors=True)
            _git(CHECKOUT, "worktree", "prune")
            _git(CHECKOUT, "worktree", "add", "--detach", "--force", str(tree), self.commit)
        _link(tree / ".venv", CHECKOUT / ".venv")
        self.reset(tree)
        _require_own(tree)
        return tree

    def reset(self, tree: Path) -> None:
        """Restore every changed file of a worktree."""
        _git(tree, "reset", "--hard", "--quiet", self.commit)
        _git(tree, "clean", "-d", "--force", "--quiet")

    def remove(self) -> None:
        """Remove the worktrees."""
        for tree in sorted(self.folder.glob("*/.git")):
            _git(CHECKOUT, "worktree", "remove", "--force", "--force", str(tree.parent))
        shutil.rmtree(self.folder, ignore_errors=True)


def commit_of(revision: str) -> str:
    """Return the hash of a commit.  Raises CalledProcessError."""
    return _git(CHECKOUT, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()


def environment(tree: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of processes in a worktree: the present one, with the worktree's packages first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTEST_"))}
    path = os.pathsep.join((str(tree), str(tree / "clients" / "python")))
    return kept | {"PYTHONPATH": path} | (more or {})


def write(path: Path, text: str) -> None:
    """Replace a module's source, and forget its compiled form: two writes within a second may have the same size."""
    path.write_text(text)
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink(missing_ok=True)


def _require_own(tree: Path) -> None:
    """Raise Foreign unless processes import the tree's packages, also those that are started from another folder."""
    for folder in (tree, Path("/")):
        command = [sys.executable, "-c", _WHERE]
        told = subprocess.run(command, cwd=folder, env=environment(tree), check=True, capture_output=True, text=True)
        for file in json.loads(told.stdout):
            if not Path(file).is_relative_to(tree):
                raise Foreign(f"a process in {folder} imports {file}, which is not of {tree}")


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink() and target.exists():
        link.symlink_to(target.resolve())


def _git(folder: Path, *arguments: str) -> str:
    """Run git without the repository's hooks."""
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
