"""Two tenants in the shared suite that have one of everything, for attempts at crossing from one to another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import httpx

from services.ops.supervisor import Suite
from tests.security.crossing.doors import Door
from tests.security.crossing.owner import Person, newcomer, settled
from tests.security.crossing.surface import Caller
from tests.security.crossing.treasure import Treasure, gathered
from tests.security.crossing.trial import Stranger, Strangers


@dataclass(frozen=True, slots=True)
class Doors:
    """Both doors of every service, open for whoever has a key."""

    channels: dict[str, grpc.aio.Channel]
    http: httpx.AsyncClient
    admin_key: str

    def of(self, key: str) -> Stranger:
        """Somebody at both doors."""
        return Stranger(Caller(self.channels, key), Door(self.http, key))

    async def newcomer(self) -> Stranger:
        """Somebody in a new tenant."""
        return self.of((await newcomer(self.channels["access"], self.admin_key)).key)

    async def strangers(self) -> Strangers:
        """Two who have nothing."""
        return Strangers(await self.newcomer(), await self.newcomer())


@dataclass(frozen=True, slots=True)
class Hoard:
    """Who is attacked, who lives beside, with the same names for things of its own, and what the first one has."""

    owner: Person
    neighbour: Person
    treasure: Treasure


@asynccontextmanager
async def open_doors(suite: Suite) -> AsyncIterator[Doors]:
    """The suite's doors, until the block ends."""
    channels = {name: grpc.aio.insecure_channel(address) for name, address in suite.addresses.items()}
    async with httpx.AsyncClient(base_url=suite.http, timeout=60.0) as http:
        try:
            yield Doors(channels, http, suite.api_key)
        finally:
            await asyncio.gather(*(channel.close() for channel in channels.values()))


async def what_is_had(doors: Doors, owner: Person, neighbour: Person) -> Treasure:
    """What the owner has and neither its neighbour nor a newcomer is told."""
    nobody = (await doors.newcomer()).caller
    others = [(nobody, {}), (doors.of(neighbour.key).caller, neighbour.unlisted)]
    return await gathered(doors.of(owner.key).caller, owner.words, owner.unlisted, others)


async def made(suite: Suite) -> Hoard:
    """Two new tenants that have one of everything, and what the first one has."""
    async with open_doors(suite) as doors:
        people = [await newcomer(doors.channels["access"], suite.api_key, it) for it in ("owner", "neighbour")]
        owner, neighbour = await asyncio.gather(*(asyncio.to_thread(settled, suite, it) for it in people))
        return Hoard(owner, neighbour, await what_is_had(doors, owner, neighbour))
