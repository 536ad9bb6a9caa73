"""The second store of a contract suite, PostgreSQL: a share of its tests run there, at least one of each file.

A contract does not depend on where rows and files are kept.  Its tests run on SQLite with a folder, and one in five of
them on PostgreSQL as well.  `make soak` runs all of them on both, and so does CI after a change of a store.  Tests of the
store itself (its order of events, its filters, what two writers do at once) always run on both.
"""

from collections.abc import Collection

import pytest

EVERY = 5


def sample_second_store(item: pytest.Item, fixture: str, store: str, *, always: Collection[str] = ()) -> None:
    """Mark a test as sampled if it runs on ``store``: for the hook ``pytest_itemcollected`` of a folder.

    ``fixture`` is the parametrised one whose value is the store; ``always`` names files, and tests as FILE::TEST, that
    run on both stores.  A test that is parametrised by store runs on the stores that it names.
    """
    if _value(item, fixture) != store or _chooses(item, fixture):
        return
    test = f"{item.path.name}::{item.name.partition('[')[0]}"
    if not {item.path.name, test} & set(always):
        family = f"{item.nodeid.partition('::')[0]} on PostgreSQL"
        item.add_marker(pytest.mark.sampled(every=EVERY, family=family))


def _value(item: pytest.Item, fixture: str) -> object:
    called = getattr(item, "callspec", None)
    return None if called is None else called.params.get(fixture)


def _chooses(item: pytest.Item, fixture: str) -> bool:
    return any(fixture in str(marker.args[0]) for marker in item.iter_markers("parametrize") if marker.args)
