"""Which module needs which: imports as grimp reads them, and what imports do not show.

* A module that is named in a string is needed: tests patch it, or start it as a process.
* A test needs the module that defines a fixture which it takes by name, or that a fixture takes which it takes.
* Everything below a conftest with hooks or automatic fixtures needs it.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grimp

from tests.harness.affected.packages import Packages

_FUNCTION = re.compile(r"^([ \t]*)(?:async )?def (\w+)\(((?:[^()]|\([^()]*\))*)\)", re.MULTILINE)
_PARAMETER = re.compile(r"(?:^|,)\s*(\w+)")
_BY_NAME = re.compile(r"(?:usefixtures|getfixturevalue)\(([^)]*)\)")
_STRING = re.compile(r"[\"'](\w+)[\"']")
_IMPORTED = re.compile(r"^from ([\w.]+) import (?:\(([^)]*)\)|(.+))$", re.MULTILINE)
_FOR_ALL = re.compile(r"autouse\s*=\s*True|^def pytest_", re.MULTILINE)
_SAMPLED = re.compile(r"\bsampled\(|plugin_sampling import")
_CONFTEST = "conftest"
# Modules that every test uses to start processes: their imports say nothing about a single test.
_PRELOADERS = re.compile(r"\.harness\.|\.(?:zygote|tied)$")


@dataclass(frozen=True, slots=True)
class Imports:
    """Which modules need each module, directly."""

    modules: frozenset[str]
    importers: Mapping[str, frozenset[str]]
    sampling: frozenset[str]  # modules of the tests that sample families

    def distances(self, changed: Iterable[str]) -> dict[str, int]:
        """Return each module that needs one of some modules, with the number of imports between; theirs is 0."""
        found = dict.fromkeys((module for module in changed if module in self.modules), 0)
        queue = deque(found)
        while queue:
            module = queue.popleft()
            for importer in self.importers.get(module, ()):
                if importer not in found:
                    found[importer] = found[module] + 1
                    queue.append(importer)
        return found


def read_imports(packages: Packages) -> Imports:
    """Read the packages of a checkout.  Nothing of them is imported."""
    with _found_first([str((packages.root / folder).parent) for folder in packages.folders.values()]):
        graph = grimp.build_graph(*packages.folders, cache_dir=None, exclude_type_checking_imports=True)
    modules = frozenset(graph.modules)
    importers: defaultdict[str, set[str]] = defaultdict(set)
    for module in modules:
        for imported in graph.find_modules_directly_imported_by(module):
            importers[imported].add(module)
    texts = {module: file.read_text(errors="replace") for module, file in packages.files() if module in modules}
    for module, text in texts.items():
        if _PRELOADERS.search(module):
            continue
        for named in _named_in_strings(text, packages, modules):
            importers[named].add(module)
    for module, needed in _fixtures(texts, packages):
        importers[needed].add(module)
    harness = f"{packages.tests}.harness."
    sampling = {
        module
        for module, text in texts.items()
        if module.startswith(f"{packages.tests}.") and not module.startswith(harness) and _SAMPLED.search(text)
    }
    return Imports(modules, {module: frozenset(those) for module, those in importers.items()}, frozenset(sampling))


@contextmanager
def _found_first(folders: list[str]) -> Iterator[None]:
    """Let Python find packages in some folders before those that are installed: a worktree's, not the main checkout's."""
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


def _named_in_strings(text: str, packages: Packages, modules: frozenset[str]) -> set[str]:
    """Return the modules whose names, or the names of things in them, are strings of a text."""
    found = set()
    for name in re.findall(rf"[\"'](?=(?:{'|'.join(packages.folders)})\.)([\w.]+)(?::\w+)?[\"']", text):
        parts = name.split(".")
        longest = next(
            (".".join(parts[:end]) for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in modules), ""
        )
        found.add(longest)
        if longest == name:  # maybe a program
            found.add(f"{name}.__main__")
    return found & modules


def _fixtures(texts: Mapping[str, str], packages: Packages) -> Iterator[tuple[str, str]]:
    """Yield each module of the tests with a module that defines fixtures which it takes."""
    tests = {module: text for module, text in texts.items() if module.split(".")[0] == packages.tests}
    offered = {
        module.rpartition(".")[0]: _offered(module, text, tests)
        for module, text in tests.items()
        if module.endswith(f".{_CONFTEST}")
    }
    for module, text in tests.items():
        taken = _taken(text)
        for folder in _ancestors(module):
            conftest = f"{folder}.{_CONFTEST}"
            if folder not in offered or conftest == module:
                continue
            if _FOR_ALL.search(tests[conftest]):
                yield module, conftest
            for name in taken & offered[folder].keys():
                yield module, offered[folder][name]
            taken -= offered[folder].keys()  # the nearest decides


def _offered(conftest: str, text: str, tests: Mapping[str, str]) -> dict[str, str]:
    """Return the names that a conftest defines or imports, with the modules that define them."""
    found = {}
    for source, many, one in _IMPORTED.findall(text):
        if source in tests:
            found.update({each.split()[-1]: source for each in (many or one).split(",") if each.strip()})
    found.update({name: conftest for indent, name, _ in _FUNCTION.findall(text) if not indent})
    return found


def _taken(text: str) -> set[str]:
    """Return the names that functions of a text take: parameters, and fixtures that are named in strings."""
    taken = {name for _, _, parameters in _FUNCTION.findall(text) for name in _PARAMETER.findall(parameters)}
    return taken | {name for names in _BY_NAME.findall(text) for name in _STRING.findall(names)}


def _ancestors(module: str) -> Iterator[str]:
    """Yield the packages around a module, the nearest first."""
    while "." in module:
        module = module.rpartition(".")[0]
        yield module
