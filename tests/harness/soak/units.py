"""How the tests of a soak are dealt out: a unit runs in one pytest process and shares what is dear to start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.harness.soak.state import PlannedTest

# tests/unit/NOUN: the imports of a folder's files are what they share.
_FOLDER_PARTS = 3
_DEFAULT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Unit:
    """Tests for one process; one that is ``alone`` has the machine to itself."""

    name: str
    tests: tuple[str, ...]
    alone: bool
    seconds: float

    @property
    def files(self) -> list[str]:
        """Return the files of its tests."""
        return list(dict.fromkeys(test.partition("::")[0] for test in self.tests))


def units(tests: Iterable[PlannedTest], recorded: Mapping[str, float]) -> list[Unit]:
    """Deal out tests: the longest unit first, by the recorded seconds of files, and those that run alone at the end."""
    members: dict[tuple[str, bool], list[PlannedTest]] = {}
    for test in tests:
        members.setdefault((_name(test), test.alone), []).append(test)
    dealt = [
        Unit(
            f"{name}, alone" if alone else name,
            tuple(test.test for test in those),
            alone,
            sum(recorded.get(file, 0.0) for file in {test.file for test in those}) + _DEFAULT_SECONDS * len(those),
        )
        for (name, alone), those in members.items()
    ]
    return sorted(dealt, key=lambda unit: (unit.alone, -unit.seconds))


def _name(test: PlannedTest) -> str:
    """Return the group that lanes keep together; a file that is for itself joins its folder."""
    return "/".join(test.file.split("/")[:-1][:_FOLDER_PARTS]) or test.file if test.group == test.file else test.group
