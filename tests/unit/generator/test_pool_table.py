"""Which engines would stop for which, and who starts first."""

from services.generator.pool_table import PoolLimits, PoolTable, Room


def test_engines_that_stop_together_are_as_few_as_make_the_room():
    table = PoolTable(PoolLimits(10, 9))
    table.add("base", 2, always_on=True)
    for at, (digest, size_bytes) in enumerate((("a", 2), ("b", 3), ("c", 3), ("d", 5))):
        table.add(digest, size_bytes)
        if digest != "d":
            table.started(digest)
            table.answers(digest, True, float(at))
    assert table.room("d") == (Room.AFTER_STOPPING, ["a", "b"])
    table.enter("a", "t")
    assert table.room("d") == (Room.AFTER_STOPPING, ["b", "c"])
    table.enter("b", "t")
    assert table.room("d") == (Room.NONE, ())
    table.add("e", 9)
    assert table.room("e") == (Room.NEVER, ())


def test_what_is_being_stopped_makes_room_without_another_victim():
    table = PoolTable(PoolLimits(10, 3))
    table.add("base", 1, always_on=True)
    for digest in "ab":
        table.add(digest, 1)
        table.started(digest)
        table.answers(digest, True, 1.0)
    table.add("c", 1)
    assert table.room("c") == (Room.AFTER_STOPPING, ["a"])
    table.stopping("a")
    assert table.room("c") == (Room.AFTER_STOPPING, [])
    table.stopped("a", 2.0)
    assert table.room("c") == (Room.FREE, ())


def test_whoever_has_the_fewest_engines_starts_first_then_whoever_has_waited_longest():
    table = PoolTable(PoolLimits(10, 9))
    for digest in ("a", "b", "c"):
        table.add(digest, 1)
    table.enter("a", "rich")
    waiting = [("b", {"rich"}, 1.0), ("c", {"poor"}, 2.0)]
    assert table.in_turn(waiting) == ["c", "b"]
