"""A library's untyped errors come out in our terms, and nothing else is caught."""

import asyncio

import pytest

from services.chassis.foreign import translated


class Refused(Exception):
    pass


def refused(error):
    return Refused(f"it said: {error}")


def test_whatever_a_library_raises_is_translated_and_keeps_its_cause():
    bare = Exception("no slot")
    with pytest.raises(Refused, match="it said: no slot") as caught, translated(refused):
        raise bare
    assert caught.value.__cause__ is bare


@pytest.mark.parametrize("passing", [asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
def test_what_ends_the_work_passes(passing):
    with pytest.raises(passing), translated(refused):
        raise passing
