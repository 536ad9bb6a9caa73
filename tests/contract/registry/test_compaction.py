"""Old events go; a watch from before them is told so, and one from the beginning starts at the oldest."""

from collections.abc import Iterator

import pytest

from tests.stack import Stack, eventually, refused


@pytest.fixture(scope="module")
def forgetful(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A registry that keeps three events."""
    settings = {"TRIVIUM_REGISTRY_SWEEP_SECONDS": "0.1", "TRIVIUM_REGISTRY_KEEP_EVENTS": "3"}
    running = Stack(tmp_path_factory.mktemp("forgetful"), settings, beside=stack)
    yield running
    running.close()


def test_a_watch_from_before_the_oldest_event_is_refused_with_where_to_begin(forgetful: Stack):
    user = forgetful.newcomer()
    version = user.publish("fares").version
    for number in range(9):
        user.point("fares", version, alias=f"a{number}")
    eventually(lambda: len(user.events_so_far()) == 3, "the oldest events went")
    assert [event.sequence for event in user.events_so_far()] == [8, 9, 10]
    assert [event.sequence for event in user.events_so_far(8)] == [9, 10]
    assert [event.sequence for event in user.events_so_far(7)] == [8, 9, 10]
    with refused("CURSOR_EXPIRED") as failures:
        user.events_so_far(6)
    assert failures[0].variables["oldest"] == "8"
    with refused("CURSOR_UNKNOWN"):
        user.events_so_far(11)


def test_a_tenant_whose_events_all_went_goes_on_after_its_newest(forgetful: Stack):
    quiet, busy = forgetful.newcomer(), forgetful.newcomer()
    quiet.publish("fares")
    version = busy.publish("fares").version
    for number in range(3):
        busy.point("fares", version, alias=f"a{number}")
    eventually(lambda: quiet.events_so_far() == [], "the quiet tenant's event went")
    with refused("CURSOR_UNKNOWN"):
        quiet.events_so_far(2)
    assert quiet.events_so_far(1) == []
    quiet.publish("fares")
    assert [event.sequence for event in quiet.events_so_far(1)] == [2]
