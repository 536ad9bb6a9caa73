"""Which tests stay in one lane when a run has several (`-n2 --dist=loadscope`): those that share what is dear to start.

A lane is a process of its own and starts for itself whatever its tests use.  What stays together is therefore a folder,
with one kind of database where the folder's tests run over two; the files of a folder whose tests start little or nothing
in common; and everything that starts the engine with the whole suite or beside it, so that the memory of one machine has
to hold the engines of one lane only.  The group that took longest when it was last recorded goes first: a long group that
begins late leaves the other lanes idle.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.affected.costs import read_record
from tests.harness.plugin_sampling import is_whole

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# Tests that start an engine outside the suite: they run before the suite starts, which stays until the end.
_ENGINES_ALONE = ("tests/integration/generator/test_own_engine", "tests/integration/generator/test_marks")
_ENGINES = ("tests/integration/", "tests/security/test_crossing", "tests/security/test_same_time")
# Here among those, and yet starts none.
_NO_ENGINE = (
    "tests/integration/gateway/test_dying_replicas",
    "tests/integration/gateway/test_without_peers",
    "tests/integration/generator/test_waiting",
    "tests/integration/test_own_encoders",
)
# Here the files of a folder share what they start; elsewhere each file is for itself.
_SHARING = ("tests/conformance/", "tests/contract/", "tests/robustness/", "tests/unit/trainer/solo/")
_DATABASE = re.compile(r"\[(?:.*-)?(sqlite|postgres)\b")


def together(test: str) -> str:
    """The name of the group that a test, by its pytest id, is in."""
    file = test.partition("::")[0]
    if file.startswith(_NO_ENGINE):
        return file
    if file.startswith(_ENGINES):
        return "engines"
    if not file.startswith(_SHARING):
        return file
    database = _DATABASE.search(test)
    return f"{file.rpartition('/')[0]} {database[1] if database else ''}".rstrip()


@pytest.hookimpl(trylast=True)  # pytest's own order is kept within a group
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where a run has lanes, put the longest group first."""
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(item.nodeid.partition("::")[0] for item in items)
    record = read_record(config.rootpath)
    costs = {file: record.cost(config.rootpath / file, file) for file in tests}
    seconds: dict[str, float] = {}
    for item in items:
        file = item.nodeid.partition("::")[0]
        cost = costs[file].whole if is_whole() else costs[file].sampled
        seconds[together(item.nodeid)] = seconds.get(together(item.nodeid), 0.0) + cost / tests[file]
    items.sort(key=lambda item: (_turn(item.nodeid), -seconds[together(item.nodeid)], together(item.nodeid)))


def _turn(test: str) -> int:
    return 2 if together(test) != "engines" else 0 if test.startswith(_ENGINES_ALONE) else 1


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
