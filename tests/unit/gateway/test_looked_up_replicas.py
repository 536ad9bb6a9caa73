"""Replicas behind one name: whoever comes under it is asked, whoever leaves it is not, and ends what it has begun."""

import asyncio
import socket
from typing import Any

import grpc
import pytest

from tests.unit.gateway.replica import Replica
from tests.unit.gateway.test_replicas import SECONDS, VERSION, answer, gateway, holds

NAME = "generators.example"


class Names:
    """What a name leads to now: addresses of replicas, or nothing that could be looked up."""

    def __init__(self, *there: Replica) -> None:
        self.there = [*there]
        self.answers = True
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked.append((host, port))
        if not self.answers:
            raise socket.gaierror(socket.EAI_AGAIN, "nobody knows")
        # As the system does: an address once for each of its kinds.
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", it.port)) for it in self.there]
        return [*found, *found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """A name of two replicas, which is looked up all the time."""
    known = Names(Replica("a", holds=(VERSION,)), Replica("b"))
    monkeypatch.setattr(socket, "getaddrinfo", known)
    return known


async def test_an_address_that_goes_ends_what_it_has_begun_and_one_that_comes_is_asked(names: Names) -> None:
    a, b = names.there
    async with gateway(a, b, named=f"dns:///{NAME}:50056") as (generator, pool), asyncio.timeout(SECONDS):
        assert set(names.asked) == {(NAME, 50056)}
        a.stops_after = 2
        begun = asyncio.create_task(answer(generator, version=VERSION))
        await a.stopped.wait()
        (channel,) = [item.channel for item in pool() if item.address.endswith(f":{a.port}")]
        names.there.remove(a)
        await holds(lambda: len(pool()) == 1)
        assert await answer(generator, version=VERSION) == ("bbb", "b")
        assert channel.get_state() is not grpc.ChannelConnectivity.SHUTDOWN
        a.stops_after = None
        a.goes_on.set()
        assert await begun == ("aaa", "a")
        await holds(lambda: channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN)
        names.there.append(a)
        await holds(lambda: any(item.known.nearness(VERSION, "") for item in pool()))
        assert await answer(generator, version=VERSION) == ("aaa", "a")


async def test_what_was_there_stays_while_the_name_cannot_be_looked_up(names: Names) -> None:
    async with gateway(*names.there, named=f"dns:///{NAME}:50056") as (_, pool):
        before = [item.address for item in pool()]
        names.answers = False
        looked_up = len(names.asked)
        await holds(lambda: len(names.asked) > looked_up + 2)
        assert [item.address for item in pool()] == before
