"""The record of soaks, `tests/soak.json`: the commit at which each test file last passed with all its cases.

It is committed, so a soak goes on from what any machine has run: a file runs again once a change can break it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.harness.repository import Repository, UnknownRevision

RECORD = Path("tests/soak.json")


@dataclass(frozen=True, slots=True)
class SoakRecord:
    """The commits of test files, by path, and the reports of the soaks of those commits."""

    files: Mapping[str, str] = field(default_factory=dict)
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def files_of(self) -> dict[str, set[str]]:
        """Return the files that passed at each commit."""
        found: dict[str, set[str]] = {}
        for file, commit in self.files.items():
            found.setdefault(commit, set()).add(file)
        return found

    def passed(self, files: Iterable[str], commit: str, report: Mapping[str, Any]) -> SoakRecord:
        """Return the record with some files that have passed at a commit."""
        return replace(
            self, files={**self.files, **dict.fromkeys(files, commit)}, reports={**self.reports, commit: report}
        )

    def text(self, root: Path) -> str:
        """Return the text that is committed: one line for each recorded file that still exists."""
        kept = {file: commit for file, commit in sorted(self.files.items()) if (root / file).is_file()}
        reports = {commit: report for commit, report in self.reports.items() if commit in set(kept.values())}
        lines = ",\n".join(f"  {json.dumps(file)}: {json.dumps(commit)}" for file, commit in kept.items())
        soaks = json.dumps(reports, indent=1).replace("\n", "\n ")
        return f'{{\n "soaks": {soaks},\n "files": {{\n{lines}\n }}\n}}\n'


def read(repository: Repository) -> SoakRecord:
    """Read the record; files that moved have their new paths.  Without a record the result is empty."""
    file = repository.root / RECORD
    if not file.is_file():
        return SoakRecord()
    document = json.loads(file.read_text())
    record = SoakRecord(document["files"], document["soaks"])
    files = {}
    for commit, those in record.files_of().items():
        moves = _moves_since(commit, repository)
        files.update({moves.get(path, path): commit for path in those})
    return SoakRecord(files, record.reports)


def _moves_since(commit: str, repository: Repository) -> dict[str, str]:
    try:
        return {each.before: each.after for each in repository.differences(commit) if each.before and each.after}
    except UnknownRevision:
        return {}
