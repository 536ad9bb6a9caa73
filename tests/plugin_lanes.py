"""Which tests stay together when a run has two lanes (`-n2 --dist=loadscope`): those that share what is dear to start.

A lane is a process of its own and starts for itself whatever its tests use.  What stays together is therefore a folder,
with one kind of database where the folder's tests run over two; the files of a folder whose tests start little or nothing
in common; and everything that starts the engine with the whole suite or beside it, so that the memory of one machine has
to hold the engines of one lane only.  That group is the longest and goes first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# What starts engines: those that are gone with their folder before the suite, which stays until the end.
_ENGINES_ALONE = "tests/integration/generator/"
_ENGINES = ("tests/integration/", "tests/security/test_crossing", "tests/security/test_same_time")
# Here the files of a folder share what they start; elsewhere each file is for itself.
_SHARING = ("tests/conformance/", "tests/contract/", "tests/robustness/")
_DATABASE = re.compile(r"\[(?:.*-)?(sqlite|postgres)\b")


def together(test: str) -> str:
    """The name of the group that a test, by its pytest id, is in."""
    file = test.partition("::")[0]
    if file.startswith(_ENGINES):
        return "engines"
    if not file.startswith(_SHARING):
        return file
    database = _DATABASE.search(test)
    return f"{file.rpartition('/')[0]} {database[1] if database else ''}".rstrip()


@pytest.hookimpl(trylast=True)  # pytest's own order is kept within
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where a run has lanes, put what starts engines first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))


def _turn(test: str) -> int:
    return 0 if test.startswith(_ENGINES_ALONE) else 1 if test.startswith(_ENGINES) else 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Deal out groups, in the order of their first tests, to whichever lane is free."""
    from xdist.scheduler import LoadScopeScheduling  # only where a run has lanes

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

        def remove_node(self, node: Any) -> str | None:
            """A test that took its lane down, or hung until its time was over, has failed and is not tried again.

            Left to itself the library deals it out once more, and a test that hangs costs its time in every new lane.
            """
            groups = self.assigned_work[node].values()
            crashed = next((test for group in groups for test, done in group.items() if not done), None)
            for group in groups:
                if crashed in group:
                    group[crashed] = True
            super().remove_node(node)
            return crashed

    return Lanes(config, log)
