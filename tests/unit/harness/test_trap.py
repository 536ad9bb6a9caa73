"""A trap tells that somebody unpickled it, once."""

import pickle

from tests.harness.trap import Trap, was_sprung


def test_a_trap_tells_that_it_was_unpickled() -> None:
    pickled = pickle.dumps(Trap())
    assert not was_sprung()
    pickle.loads(pickled)
    assert was_sprung()
    assert not was_sprung()
