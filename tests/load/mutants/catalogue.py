"""The catalogue of planted faults: one data file a service, and how a fault is put into a tree.

A fault names a module, a symbol in it, and text within the symbol's source that other text takes the place of.  So a
rename changes ``module`` and ``symbol``, and code that moves within its symbol changes nothing.

The fields of an entry:

- ``name``: what goes wrong, as a short sentence; unique.
- ``module``, ``symbol``: where; the symbol is a function, class or constant by its qualified name in the module.
- ``old``, ``new``: ``old`` stands exactly once in the symbol's source.
- ``promise`` (its number in the README's list) or ``contract`` (a sentence): what is broken.
- ``commit``: the mend that the fault reverses, where it is one that the history has.
- ``seen_by``: folders of ``tests`` whose tests are expected to find it.
"""

from __future__ import annotations

import ast
import hashlib
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
SERVICES = ("access", "registry", "trainer", "embedder", "retriever", "generator", "files", "gateway")
CHASSIS = "chassis"


class Misplaced(Exception):
    """The fault does not fit the tree, and why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault.  ``breaks`` is ``promise N`` or a sentence of a contract."""

    name: str
    service: str
    module: str
    symbol: str
    old: str
    new: str
    breaks: str
    commit: str = ""
    seen_by: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return what its results are kept under: another one when the fault itself is changed."""
        facts = "\0".join((self.module, self.symbol, self.old, self.new))
        return f"{self.name} [{hashlib.sha256(facts.encode()).hexdigest()[:8]}]"

    def path(self, tree: Path) -> Path:
        """Return the module's file in a tree.  Raises Misplaced if the tree has no such module."""
        folder = tree.joinpath(*self.module.split("."))
        for path in (folder.with_suffix(".py"), folder / "__init__.py"):
            if path.is_file():
                return path
        raise Misplaced(f"there is no module {self.module}")

    def planted(self, source: str) -> str:
        """Return the module's source with the fault in it.  Raises Misplaced."""
        lines = source.splitlines(keepends=True)
        first, last = _lines_of(ast.parse(source), self.symbol)
        text = "".join(lines[first:last])
        if (count := text.count(self.old)) != 1:
            raise Misplaced(f"the old text stands {count} times in {self.symbol} of {self.module}")
        return "".join([*lines[:first], text.replace(self.old, self.new), *lines[last:]])


def load(folder: Path = FOLDER) -> list[Fault]:
    """Return every fault, by service in the order of their files' names."""
    return [fault for path in sorted(folder.glob("*.toml")) for fault in _entries(path)]


def _entries(path: Path) -> Iterator[Fault]:
    for entry in tomllib.loads(path.read_text()).get("fault", []):
        yield _fault(path.stem, entry)


def _fault(service: str, entry: dict[str, Any]) -> Fault:
    entry = dict(entry)
    if len({"promise", "contract"} & entry.keys()) != 1:
        raise ValueError(f"{entry['name']}: give either a promise or a contract")
    breaks = f"promise {entry.pop('promise')}" if "promise" in entry else str(entry.pop("contract"))
    seen_by = tuple(entry.pop("seen_by", ()))
    return Fault(service=service, breaks=breaks, seen_by=seen_by, **entry)


def _lines_of(tree: ast.Module, symbol: str) -> tuple[int, int]:
    """Return the first line of a symbol's source, decorators included, counted from 0, and the one behind its last."""
    body: Sequence[ast.stmt] = tree.body
    for part in symbol.split("."):
        found = [node for node in body if part in _names_of(node)]
        if len(found) != 1:
            raise Misplaced(f"{len(found)} symbols are called {symbol}")
        node = found[0]
        body = getattr(node, "body", [])
    starts = [node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))]
    assert node.end_lineno is not None, "parsed from text"
    return min(starts) - 1, node.end_lineno


def _names_of(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
