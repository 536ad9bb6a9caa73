"""The test files that a change can break, those that it is likeliest to break first, as many as fit the cap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tests.harness.affected import costs, rules, soak_record
from tests.harness.affected.changes import changed_paths
from tests.harness.affected.imports import Imports, read_imports
from tests.harness.affected.packages import Packages, packages_of
from tests.harness.affected.soak_record import SoakRecord
from tests.harness.repository import Repository, UnknownRevision

# From a test over what it tests to what that uses; further away are the helpers of all tests.
_NEAR_IMPORTS = 3


class Reason(IntEnum):
    """Why a change can break a test, the likeliest first."""

    ITSELF = 1
    IMPORTS = 2
    STARTS_SERVICE = 3
    IMPORTS_INDIRECTLY = 4
    SHARES_CODE = 5
    EVERYTHING = 6

    @property
    def sentence(self) -> str:
        """Return the reason for people."""
        return {
            Reason.ITSELF: "changed itself",
            Reason.IMPORTS: "imports what changed",
            Reason.STARTS_SERVICE: "starts a service that changed",
            Reason.IMPORTS_INDIRECTLY: "imports what changed through several others",
            Reason.SHARES_CODE: "starts a service that uses what changed",
            Reason.EVERYTHING: "everything depends on what changed",
        }[self]


@dataclass(frozen=True, slots=True, order=True)
class Affected:
    """A test file that a change can break; ``distance`` counts imports between."""

    reason: Reason
    distance: int
    file: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The test files that run, and those that the cap leaves to the next soak."""

    selected: tuple[Affected, ...]
    dropped: tuple[Affected, ...]
    lane_seconds: float
    room: float

    @property
    def files(self) -> set[str]:
        """Return the selected files."""
        return {each.file for each in self.selected}


def affected_tests(paths: Iterable[str], packages: Packages, imports: Imports) -> list[Affected]:
    """Return the test files that changes of some files can break, the likeliest first."""
    reaches = {path: rules.reach_of(path) for path in paths}
    distances = imports.distances(
        module for path, reach in reaches.items() for module in _modules(path, reach, packages, imports)
    )
    services = {
        service: (reason, distances.get(f"{service}.__main__", 0))
        for service in rules.PROCESSES
        if (reason := _reason(service, reaches, distances)) is not None
    }
    found = []
    for file in packages.test_files():
        causes = [*_own_causes(file, reaches), *_import_causes(packages.module_of(file) or "", distances)]
        causes += [cause for service, cause in services.items() if rules.starts(file, service)]
        if causes:
            found.append(Affected(*min(causes), file))
    return sorted(found)


def _own_causes(file: str, reaches: Mapping[str, rules.Reach]) -> Iterator[tuple[Reason, int]]:
    """Yield the reasons, other than imports, for which changed files affect a test file."""
    if file in reaches:
        yield Reason.ITSELF, 0
    for reach in reaches.values():
        if reach.everything:
            yield Reason.EVERYTHING, 0
        if any(file.startswith(f"{folder}/") for folder in reach.folders):
            yield Reason.IMPORTS, 0


def _import_causes(module: str, distances: Mapping[str, int]) -> Iterator[tuple[Reason, int]]:
    distance = distances.get(module)
    if distance is not None:
        yield Reason.IMPORTS if distance <= _NEAR_IMPORTS else Reason.IMPORTS_INDIRECTLY, distance


def _modules(path: str, reach: rules.Reach, packages: Packages, imports: Imports) -> set[str]:
    """Return the modules that change with a file."""
    module = packages.module_of(path)
    if module is not None and not path.endswith("/__init__.py"):
        return {module}
    if module is None and not reach.beside:
        return set()
    package = module or _package_around(path, packages, imports)
    return {each for each in imports.modules if each == package or each.rpartition(".")[0] == package}


def _package_around(path: str, packages: Packages, imports: Imports) -> str:
    """Return the nearest package around a file that is no module."""
    folder = path
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        package = packages.package_of(f"{folder}/file")
        if package in imports.modules:
            return package
    return ""


def _reason(service: str, reaches: Mapping[str, rules.Reach], distances: Mapping[str, int]) -> Reason | None:
    """Return why tests that start a service are affected; None if they are not."""
    is_own = any(rules.own_service(path) == service for path in reaches)
    uses = any(f"{service}.{program}" in distances for program in ("__main__", "main")) or service in distances
    if any(service in reach.services for reach in reaches.values()) or (is_own and uses):
        return Reason.STARTS_SERVICE
    return Reason.SHARES_CODE if uses else None


def fit(affected: Sequence[Affected], seconds: Mapping[str, float], room: float) -> Selection:
    """Take what fits into a room of lane-seconds, in order; what is too long leaves its place to what comes after it."""
    selected, dropped, total = [], [], 0.0
    for each in sorted(affected, key=lambda each: (each.reason, each.distance, seconds[each.file], each.file)):
        if total + seconds[each.file] <= room:
            total += seconds[each.file]
            selected.append(each)
        else:
            dropped.append(each)
    return Selection(tuple(selected), tuple(dropped), total, room)


def affected_since(base: str, packages: Packages, imports: Imports) -> list[Affected]:
    """Return the test files that the changes since a revision can break.  Raises UnknownRevision."""
    return affected_tests(changed_paths(Repository(packages.root), packages, base), packages, imports)


def affected_since_soak(record: SoakRecord, packages: Packages, imports: Imports) -> list[Affected]:
    """Return the test files that a change can break since each passed in a soak; those that never did are not listed."""
    found: list[Affected] = []
    for commit, files in record.files_of().items():
        found += (each for each in _affected_or_all(commit, packages, imports) if each.file in files)
    return sorted(found)


def _affected_or_all(base: str, packages: Packages, imports: Imports) -> list[Affected]:
    """Return what changes since a revision can break; all tests where the revision is not in the repository."""
    try:
        return affected_since(base, packages, imports)
    except UnknownRevision:
        return [Affected(Reason.EVERYTHING, 0, file) for file in packages.test_files()]


def select(base: str, root: Path) -> Selection:
    """Return what `make affected` runs: the affected files alone, whole, within the cap.  Raises UnknownRevision."""
    packages = packages_of(root)
    affected = affected_since(base, packages, read_imports(packages))
    record = costs.read_record(root)
    seconds = {each.file: record.cost(root / each.file, each.file).whole for each in affected}
    return fit(affected, seconds, costs.room(root))


def select_families(base: str | None, root: Path) -> Selection:
    """Return the affected files whose families `make test` runs whole, beside all others sampled, within the cap.

    Changes count since ``base``, or without one since the last soak of each file.  A file without families is in neither
    list: it runs anyway.  Where the base is not in the repository, everything counts as changed.
    """
    packages = packages_of(root)
    imports = read_imports(packages)
    if base is None:
        affected = affected_since_soak(soak_record.read(Repository(root)), packages, imports)
    else:
        affected = _affected_or_all(base, packages, imports)
    record = costs.read_record(root)
    cost = {file: record.cost(root / file, file) for file in packages.test_files()}
    sampling = _sampling_files(packages, imports)
    families = [each for each in affected if each.file in sampling]
    left = costs.room(root) - sum(each.sampled for each in cost.values())
    return fit(families, {file: each.extra for file, each in cost.items()}, left)


def _sampling_files(packages: Packages, imports: Imports) -> set[str]:
    """Return the test files that sample families themselves, or take a helper or a fixture that does."""
    reached = imports.distances(imports.sampling)
    return {file for file in packages.test_files() if packages.module_of(file) in reached}
