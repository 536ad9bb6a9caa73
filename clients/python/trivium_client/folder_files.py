"""Which files of a folder are documents, and what they are called.

Invariant: a file is taken only if it lies in the folder itself, links followed; and its id is its path inside the
folder, with slashes, so that the same folder gives the same ids on every machine.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# What is read as a document unless globs say otherwise.
ENDINGS = frozenset(
    {
        ".md", ".markdown", ".mdown", ".txt", ".text", ".html", ".htm", ".xhtml", ".docx", ".pdf", ".pptx", ".csv",
        ".json", ".tsv", ".jsonl", ".ndjson",
    }
)  # fmt: skip
# Left out unless an include names them: hidden, made by tools, or half of what an editor writes.
_LEFT_OUT = (".*", "~$*", "*~", "#*#", "*.tmp", "*.swp", "node_modules", "__pycache__", "Thumbs.db")


@dataclass(frozen=True, slots=True)
class Selection:
    """Globs over paths inside the folder.

    `**` crosses folders; a glob without a slash is of a name at any depth; one that names a folder is of all that is
    below it.  With no `include`, files of the kinds that are read as documents.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, relative: str) -> bool:
        """Whether the file at this path inside the folder is wanted."""
        if _any(self.exclude, relative):
            return False
        if self.include:
            return _any(self.include, relative)
        return not _hidden(relative) and Path(relative).suffix.lower() in ENDINGS

    def passes_over(self, relative: str) -> bool:
        """Whether the file is left out for its ending alone: nobody said so, and it is no hidden one."""
        return (
            not self.include and not self.takes(relative) and not _any(self.exclude, relative) and not _hidden(relative)
        )

    def enters(self, relative: str) -> bool:
        """Whether anything below the folder at this path can be wanted."""
        if _any(self.exclude, relative):
            return False
        name = relative.rpartition("/")[2]
        return bool(self.include) or not any(fnmatch.fnmatchcase(name, glob) for glob in _LEFT_OUT)


@dataclass(frozen=True, slots=True)
class Found:
    """A file: its path inside the folder, where it lies, and what tells that it has changed."""

    relative: str
    path: Path
    stamp: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Below:
    """What one walk through a folder finds: the wanted files, and the paths of those that no ending marks as documents."""

    files: tuple[Found, ...]
    left_out: tuple[str, ...]


def below(folder: Path, selection: Selection) -> Below:
    """The files of a folder, by path.  A link that leads out of the folder is not followed."""
    inside = folder.resolve()
    found: list[Found] = []
    passed: list[str] = []
    for relative, path in _every(folder, selection):
        if selection.takes(relative):
            if file := _found(relative, path, inside):
                found.append(file)
        elif selection.passes_over(relative):
            passed.append(relative)
    return Below(tuple(sorted(found, key=lambda file: file.relative)), tuple(sorted(passed)))


def _found(relative: str, path: Path, inside: Path) -> Found | None:
    """The file; None for what is none, is no longer there or lies elsewhere."""
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            return None
        state = path.stat()
    except (OSError, RuntimeError):
        # It went away, or its links go round in a circle.
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    return Found(relative, path, (state.st_mtime_ns, state.st_size, state.st_ino))


def _hidden(relative: str) -> bool:
    return any(fnmatch.fnmatchcase(part, glob) for part in relative.split("/") for glob in _LEFT_OUT)


def _every(folder: Path, selection: Selection) -> Iterator[tuple[str, Path]]:
    for here, folders, names in os.walk(folder):
        base = Path(here).relative_to(folder).as_posix()
        before = "" if base == "." else f"{base}/"
        folders[:] = [name for name in folders if selection.enters(before + name)]
        yield from ((before + name, Path(here) / name) for name in names)


def _any(globs: Sequence[str], relative: str) -> bool:
    return any(_matches(glob, relative) for glob in globs)


def _matches(glob: str, relative: str) -> bool:
    glob = glob.removeprefix("./").rstrip("/")
    anchored = "/" in glob
    pattern = re.compile(_expression(glob.removeprefix("/")))
    # The path itself, and each folder above it: a glob that is of a folder is of all below.
    parts = relative.split("/")
    places = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)] if anchored else parts
    return any(pattern.fullmatch(place) for place in places)


def _expression(glob: str) -> str:
    """The glob as a regular expression: `*` and `?` stay inside a name, `**` does not."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    return "".join(_PIECES.get(piece) or _literal_or_set(piece) for piece in pieces)


_PIECES = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _literal_or_set(piece: str) -> str:
    if piece.startswith("[") and piece.endswith("]"):
        inner = piece[1:-1].replace("\\", "\\\\")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(piece)
