"""Reads git: the commit of a checkout, its differences from a commit, and file contents at a commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Renames are looked for among any number of files, also where half of a file has changed.
_RENAMES = ("--find-renames=50%", "-l100000")


class UnknownRevision(Exception):
    """A revision that this repository does not hold."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One file that differs from a revision.  ``before`` or ``after`` is empty where the file is new or deleted."""

    before: str
    after: str
    same_content: bool = False


@dataclass(frozen=True, slots=True)
class Repository:
    """A checkout."""

    root: Path

    def git(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run git and return what it prints.  Raises CalledProcessError."""
        command = ["git", "-C", str(self.root), *arguments]
        finished = subprocess.run(command, env=environment, check=True, capture_output=True)
        return finished.stdout.decode(errors="surrogateescape")

    def commit(self, revision: str = "HEAD") -> str:
        """Return the hash of a commit.  Raises UnknownRevision."""
        try:
            return self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
        except subprocess.CalledProcessError:
            raise UnknownRevision(f"this repository holds no commit {revision}") from None

    def differences(self, revision: str) -> list[Difference]:
        """Return the files of the working tree that differ from a commit; new files that git does not ignore count."""
        commit = self.commit(revision)
        with self._index_with_new_files() as environment:
            listed = self.git(
                "diff", "--name-status", "-z", "--no-ext-diff", *_RENAMES, commit, "--", environment=environment
            )
        return _parse(listed.split("\0"))

    def patch(self, without: Sequence[str] = ()) -> str:
        """Return all that differs from HEAD, new files too, as one text; empty in a clean checkout.

        ``without`` names paths that do not count.
        """
        excluded = [f":(exclude){path}" for path in without]
        with self._index_with_new_files() as environment:
            return self.git("diff", "--binary", "--no-ext-diff", "HEAD", "--", ".", *excluded, environment=environment)

    def contents(self, revision: str, paths: Sequence[str]) -> dict[str, bytes]:
        """Return what files held at a commit, by path."""
        asked = "".join(f"{revision}:{path}\n" for path in paths).encode()
        command = ["git", "-C", str(self.root), "cat-file", "--batch"]
        answer = subprocess.run(command, input=asked, check=True, capture_output=True).stdout
        found, start = {}, 0
        for path in paths:
            header_end = answer.index(b"\n", start)
            size = answer[start:header_end].rpartition(b" ")[2]
            start = header_end + 1
            if size.isdigit():  # otherwise "... missing"
                found[path] = answer[start : start + int(size)]
                start += int(size) + 1
        return found

    @contextmanager
    def _index_with_new_files(self) -> Iterator[dict[str, str]]:
        """Add new files to a copy of the index, so that git compares them too; the index itself stays as it is."""
        index = self.root / self.git("rev-parse", "--git-path", "index").strip()
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "index"
            if index.exists():
                shutil.copy(index, copy)
            environment = {**os.environ, "GIT_INDEX_FILE": str(copy), "GIT_OPTIONAL_LOCKS": "0"}
            self.git("add", "--intent-to-add", "--all", ".", environment=environment)
            yield environment


def _parse(fields: Sequence[str]) -> list[Difference]:
    """Read the fields of `git diff --name-status -z`."""
    found = []
    rest = iter(fields)
    for status in rest:
        if not status:
            break
        path = next(rest)
        if status[0] in "RC":
            found.append(Difference(path if status[0] == "R" else "", next(rest), same_content=status[1:] == "100"))
        else:
            found.append(Difference("" if status == "A" else path, "" if status == "D" else path))
    return found
