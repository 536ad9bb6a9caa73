"""Lists of what is wrong with a dataset, kept for a day under its digest, also when it was refused.

Invariant: a list under its name is whole; a check that did not come to its end leaves none.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named
from services.trainer.data.rows import Problem


class Written:
    """A list that grows: what is said of a dataset, in order."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self._most = most
        self.first: list[Problem] = []
        self.count = 0

    def take(self, problems: Sequence[Problem]) -> None:
        """Append problems; the first ones are also kept in `first`."""
        self.count += len(problems)
        self.first.extend(problems[: max(0, self._most - len(self.first))])
        with disk_full_named("the datasets"):
            self._file.writelines(json.dumps(asdict(problem)).encode() + b"\n" for problem in problems)


class ProblemLists:
    """The lists, a folder a tenant."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def writing(self, tenant: str, digest: str, most: int = 1000) -> Iterator[Written]:
        """A list that takes the place of the dataset's earlier one when the block ends without an exception.

        `most`: how many of the first problems are also kept in memory.
        """
        path = self._path(tenant, digest)
        temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}.partial")
        with disk_full_named("the datasets"):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield Written(file, most)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def page(self, tenant: str, digest: str, size: int, place: str) -> tuple[list[Problem], str]:
        """At most `size` problems from a place in the list, empty for its beginning, and the next place; empty for none.

        Raises DATASET_REPORT_NOT_FOUND, and PAGE_TOKEN_INVALID for a place in a list that another took the place of.
        """
        found: list[Problem] = []
        try:
            with self._path(tenant, digest).open("rb") as file:
                status = os.fstat(file.fileno())
                file.seek(_offset_bytes(place, status))
                while len(found) < size and (line := file.readline()):
                    found.append(Problem(**json.loads(line)))
                following = f"{_mark(status)}.{file.tell()}" if file.peek(1) else ""
        except FileNotFoundError:
            raise Failure(Reason.DATASET_REPORT_NOT_FOUND, name=digest) from None
        except (ValueError, TypeError):
            if not place:
                raise
            # Nobody was given it.
            raise Failure(Reason.PAGE_TOKEN_INVALID, field="page_token") from None
        return found, following

    def drop(self, tenant: str, digest: str) -> None:
        """Remove a dataset's list."""
        with suppress(FileNotFoundError):
            self._path(tenant, digest).unlink()

    def sweep(self, before: float) -> int:
        """Remove lists older than `before` (Unix seconds); return how many went."""
        gone = 0
        for path in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    gone += 1
        return gone

    def _path(self, tenant: str, digest: str) -> Path:
        return self.folder / tenant / digest.removeprefix("sha256:")


def _mark(status: os.stat_result) -> str:
    """By which a list is told from one that takes its place."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def _offset_bytes(place: str, status: os.stat_result) -> int:
    """Where in the list a place is.  Raises ValueError for a place that is in none, or in another."""
    if not place:
        return 0
    mark, _, offset = place.rpartition(".")
    if mark != _mark(status) or not 0 <= int(offset) <= status.st_size:
        raise ValueError(place)
    return int(offset)
