"""A forked worker knows whose child it is: one whose trainer was killed while it began does not wait for it for ever."""

import os

from tests.forked_workers import adopted

_NOBODY = 1 << 30


def test_a_worker_is_its_trainers_child_or_nobodys() -> None:
    parent = os.getppid()
    assert adopted(between=_NOBODY, trainer=parent)
    # The one between has ended, and somebody else has us: the trainer is no more.
    assert not adopted(between=_NOBODY, trainer=_NOBODY + 1)
