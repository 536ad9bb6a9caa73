"""The tests of `make check` (``--fast``): those that need no server, in files that were quick when last recorded.

A file that takes long is not even imported: importing the engine's and the trainer's libraries takes longer than most tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.affected.costs import Record, read_record

# Tests in process; the other folders start what they test.
_FOLDERS = ("tests/unit",)
_MOST_LANE_SECONDS = 2.0
# Fixtures that start a server, which takes a second or more.
_SERVERS = frozenset(
    {
        "bucket",
        "embedder_address",
        "library",
        "own_encoders",
        "postgres",
        "postgres_url",
        "reader",
        "s3",
        "stack",
        "suite",
        "user",
        "weaviate",
    }
)


class FastTests:
    """Leaves out what is slow or starts a server."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._record: Record = read_record(root)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave out the files of other folders and those that took long; None leaves the decision to others."""
        path = collection_path.relative_to(self._root).as_posix()
        if collection_path.is_dir():
            return None if any(_is_on_the_way(path, folder) for folder in _FOLDERS) else True
        if not path.startswith(_FOLDERS):
            return True
        return True if self._record.cost(collection_path, path).sampled > _MOST_LANE_SECONDS else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out the tests that take a fixture which starts a server."""
        slow = [item for item in items if _SERVERS & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=slow)
        left_out = {item.nodeid for item in slow}
        items[:] = [item for item in items if item.nodeid not in left_out]


def _is_on_the_way(path: str, folder: str) -> bool:
    """Return whether a folder contains, or is below, the folder whose tests are wanted."""
    return path == "." or folder == path or folder.startswith(f"{path}/") or path.startswith(f"{folder}/")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller ask for the quick tests alone."""
    parser.addoption("--fast", action="store_true", help="run only tests that start no server, in quick files")


def pytest_configure(config: pytest.Config) -> None:
    """Choose in each process that collects."""
    if config.getoption("--fast"):
        config.pluginmanager.register(FastTests(config.rootpath), "trivium-fast")
