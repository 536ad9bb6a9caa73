"""A full server refuses at the door, in its own words, whoever asks and whatever it would cost to know."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.admission import AdmissionLayer


async def test_calls_that_wait_for_access_fill_the_server_too_and_the_next_is_not_asked_who_it_is():
    settings: Any = SimpleNamespace(max_calls=2)
    door = AdmissionLayer(settings).at_the_door
    asked: list[str] = []
    answers = asyncio.Event()

    async def authenticate(call: Any) -> None:
        asked.append(call)
        await answers.wait()

    calls: list[Any] = ["first", "second", "third"]
    waiting = [asyncio.create_task(door(authenticate, call)) for call in calls[:2]]
    await asyncio.sleep(0)
    with pytest.raises(Failure) as refused:
        await door(authenticate, calls[2])
    assert (refused.value.reason, refused.value.retry_after_seconds) == (Reason.OVERLOADED, 1.0)
    assert asked == calls[:2]
    answers.set()
    await asyncio.gather(*waiting)
    await door(authenticate, calls[2])
