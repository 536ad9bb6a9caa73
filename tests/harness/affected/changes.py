"""Which files changed in a way that a test could notice.

Moves do not count: a file with the same content at another path, and a file that names moved modules by their new names
and is otherwise the same program.  Comments, layout and docstrings that no code reads do not count either.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.affected.packages import Packages
from tests.harness.repository import Difference, Repository

# Tables of pyproject.toml that no tested code reads: checks of the text, and how tests are run.
_OTHER_TOOLS = ("ruff", "mypy", "importlinter", "hatch", "pytest")


def changed_paths(repository: Repository, packages: Packages, revision: str) -> set[str]:
    """Return the paths that changed since a revision; a deleted file's is its path then.  Raises UnknownRevision."""
    differences = repository.differences(revision)
    moved = {
        before: after
        for each in differences
        if each.before != each.after
        and (before := packages.module_of(each.before))
        and (after := packages.module_of(each.after))
    }
    compared = [each for each in differences if not each.same_content]
    contents = repository.contents(revision, [each.before for each in compared if each.before])
    return {
        each.after or each.before
        for each in compared
        if _is_change(each, contents.get(each.before, b""), _read(repository.root, each.after), packages, moved)
    }


def _read(root: Path, path: str) -> bytes:
    file = root / path
    return file.read_bytes() if path and file.is_file() else b""


def _is_change(each: Difference, before: bytes, after: bytes, packages: Packages, moved: Mapping[str, str]) -> bool:
    if not before.strip() and not after.strip():
        return False  # an empty file that came or went
    path = each.after or each.before
    if path == "pyproject.toml":
        return _tables(before) != _tables(after)
    if not path.endswith(".py") or not each.before or not each.after:
        return True
    try:
        return _program(before, each.before, packages, moved) != _program(after, each.after, packages, {})
    except (SyntaxError, ValueError):
        return True


def _tables(content: bytes) -> object:
    try:
        tables = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return content
    tools = tables.get("tool", {})
    return tables | {"tool": {name: table for name, table in tools.items() if name not in _OTHER_TOOLS}}


def _program(content: bytes, path: str, packages: Packages, moved: Mapping[str, str]) -> object:
    """Return a module in a form that is equal for equal programs; names of imported modules do not count.

    That is the set of what it imports, and its syntax tree without imports and docstrings, in which a name that an
    import binds stands for what it imports.
    """
    package = packages.package_of(path)
    tree = ast.parse(content)
    if b"__doc__" not in content:
        _drop_docstrings(tree)
    names = _Names(package, moved)
    names.visit(tree)
    return frozenset(names.imports), ast.dump(_Renamed(names.bound, moved).visit(tree))


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                del node.body[0]


def _renamed(name: str, moved: Mapping[str, str]) -> str:
    """Return a dotted name with its longest moved beginning replaced."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in moved:
            return ".".join([moved[module], *parts[length:]])
    return name


@dataclass(frozen=True, slots=True)
class _Import:
    """One imported name: its module, the name itself, and the alias it is bound to, if any."""

    scope: str
    target: str
    bound: str


class _Names(ast.NodeVisitor):
    """Collects imports, and what the names that they bind stand for."""

    def __init__(self, package: str, moved: Mapping[str, str]) -> None:
        self._package = package
        self._moved = moved
        self._scope: list[str] = []
        self.imports: list[_Import] = []
        self.bound: dict[str, str] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Enter a function."""
        self._enter(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Enter a coroutine."""
        self._enter(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Enter a class."""
        self._enter(node)

    def _enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    def visit_Import(self, node: ast.Import) -> None:
        """Take ``import a.b`` and ``import a.b as c``."""
        for each in node.names:
            if each.asname:
                self._take(each.name, each.asname)
            else:
                self.imports.append(_Import(".".join(self._scope), _renamed(each.name, self._moved), ""))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Take ``from a import b``, also where ``a`` is relative."""
        parts = self._package.split(".")
        above = parts[: len(parts) - node.level + 1] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        for each in node.names:
            self._take(f"{source}.{each.name}", each.asname or each.name)

    def _take(self, target: str, bound: str) -> None:
        now = _renamed(target, self._moved)
        differs = bound != target.rpartition(".")[2]
        self.imports.append(_Import(".".join(self._scope), now, bound if differs else ""))
        self.bound[bound] = now


class _Renamed(ast.NodeTransformer):
    """Takes imports out and replaces names that they bind, dotted names and strings by what they stand for."""

    def __init__(self, bound: Mapping[str, str], moved: Mapping[str, str]) -> None:
        self._bound = bound
        self._moved = moved

    def visit_Import(self, _: ast.Import) -> None:
        """Drop it."""

    def visit_ImportFrom(self, _: ast.ImportFrom) -> None:
        """Drop it."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Replace a bound name."""
        return ast.Name(self._bound.get(node.id, node.id), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Replace ``a.b.c`` where ``import a.b`` names a moved module."""
        dotted = ".".join(_dotted(node))
        now = _renamed(dotted, self._moved) if dotted else ""
        if now != dotted:
            return _attribute(now, node.ctx)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        """Replace a module's name in a string, as tests name what they patch."""
        if isinstance(node.value, str):
            return ast.Constant(_renamed(node.value, self._moved), node.kind)
        return node


def _dotted(node: ast.expr) -> Iterator[str]:
    """Yield the parts of a dotted name; nothing for any other expression."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute) and (before := list(_dotted(node.value))):
        yield from before
        yield node.attr


def _attribute(name: str, context: ast.expr_context) -> ast.expr:
    parts: Sequence[str] = name.split(".")
    expression: ast.expr = ast.Name(parts[0], ast.Load() if len(parts) > 1 else context)
    for position, part in enumerate(parts[1:], 2):
        expression = ast.Attribute(expression, part, context if position == len(parts) else ast.Load())
    return expression
