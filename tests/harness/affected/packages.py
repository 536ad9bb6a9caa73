"""Where the packages of a checkout lie: module names for paths and paths for module names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Packages:
    """The top-level packages of a checkout, by name, with their folders; ``tests`` names the one that holds the tests."""

    root: Path
    folders: Mapping[str, str]
    tests: str

    def module_of(self, path: str) -> str | None:
        """Return the name of the module in a file; None if the file is no module of these packages."""
        file = PurePosixPath(path)
        if file.suffix != ".py":
            return None
        parts = self._parts(file.with_suffix(""))
        if parts is None:
            return None
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def package_of(self, path: str) -> str:
        """Return the name of the package of a file's folder; empty if the folder is in none of these packages."""
        parts = self._parts(PurePosixPath(path).parent)
        return ".".join(parts or [])

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield every module's name and its file."""
        for folder in self.folders.values():
            for file in sorted((self.root / folder).rglob("*.py")):
                if module := self.module_of(file.relative_to(self.root).as_posix()):
                    yield module, file

    def test_files(self) -> list[str]:
        """Return the paths of all test files, benchmarks aside."""
        folder = self.folders[self.tests]
        found = (file.relative_to(self.root).as_posix() for file in (self.root / folder).rglob("test_*.py"))
        return sorted(file for file in found if not file.startswith(f"{folder}/load/"))

    def _parts(self, path: PurePosixPath) -> list[str] | None:
        for name, folder in self.folders.items():
            if path.is_relative_to(folder):
                return [name, *path.relative_to(folder).parts]
        return None


def packages_of(root: Path) -> Packages:
    """Return the packages of a checkout of this repository."""
    folders = {
        "services": "services",
        "gateway": "gateway",
        "trivium_client": "clients/python/trivium_client",
        "tests": "tests",
    }
    return Packages(root, folders, "tests")
