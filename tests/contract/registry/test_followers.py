"""A generator's watcher follows a running registry: canaries, going back at once, deletions, and a cut-off history.

The watcher, its stub and the registry are the real ones; the engine below them holds nothing but names.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.generator.cursor import Cursor
from services.generator.peers import RemoteRegistry
from services.generator.places import Limits, Slots
from services.generator.watcher import Watcher
from tests.stack import Stack, User, eventually
from tests.unit.generator.engines import MemoryEngine, OneEngine, stored


class Key:
    """Puts a key on a call, as a service's own channel puts an assertion."""

    def __init__(self, key: str) -> None:
        self._metadata = grpc.aio.Metadata(("authorization", f"Bearer {key}"))

    def on(self, call: Any) -> Any:
        return grpc.aio.ClientCallDetails(
            call.method, call.timeout, self._metadata, call.credentials, call.wait_for_ready
        )


class OnCalls(Key, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.on(client_call_details), request)


class OnStreams(Key, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.on(client_call_details), request)


class Link:
    """What the registry's stub in the generator needs of a runtime."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def channel(self, _: str) -> grpc.aio.Channel:
        keys: list[Any] = [OnCalls(self._stack.key("service")), OnStreams(self._stack.key("service"))]
        self.opened = grpc.aio.insecure_channel(self._stack.registry.address, interceptors=keys)
        return self.opened

    @asynccontextmanager
    async def as_service(self) -> AsyncIterator[None]:
        yield


class Shelf:
    async def obtain(self, facts: Any, ended: Any = None) -> Any:
        return stored(facts.version)

    def used_at(self, version: str) -> float:
        return 0.0

    def has_room(self, facts: Any) -> bool:
        return True


class Log:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        if event == "watch_interrupted":
            self.reasons.append(fields["reason"])

    error = info


class Follower:
    """A watcher that runs, and what it heard and holds."""

    def __init__(self, slots: Slots, log: Log) -> None:
        self.slots = slots
        self.log = log
        self.deletions = 0

    def holds(self, version: str) -> bool:
        return version in {held.stored.version for held in self.slots.residents()}


@asynccontextmanager
async def following(stack: Stack, name: str, cursor: Path) -> AsyncIterator[Follower]:
    """Run a generator's watcher; what it remembers stands in ``cursor``."""
    engine, link = MemoryEngine(8), Link(stack)
    await engine.start()
    follower = Follower(Slots(engine, Limits(8, 8), lambda: 0.0), Log())
    await follower.slots.resume([])

    def deleted() -> None:
        follower.deletions += 1

    registry: Any = RemoteRegistry(link, name)  # type: ignore[arg-type]  # it needs three things of a runtime
    watcher = Watcher(
        registry,
        Shelf(),
        OneEngine(follower.slots),
        Cursor(cursor),
        follower.log,
        heartbeat_seconds=10.0,
        pause=lambda seconds: asyncio.sleep(min(seconds, 0.05) if seconds < 10 else seconds),
        version_deleted=[deleted],
    )
    life = asyncio.create_task(watcher.run())
    try:
        yield follower
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await link.opened.close()


async def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run what blocks beside the watcher's loop."""
    return await asyncio.to_thread(partial(function, *arguments, **named))


async def come_true(holds: Callable[[], Any], what: str) -> None:
    await call(eventually, holds, what, 30)


@pytest.fixture(scope="module")
def lonely(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A registry that only the generators of these tests report to, and that keeps few events."""
    settings = {"TRIVIUM_REGISTRY_SWEEP_SECONDS": "0.1", "TRIVIUM_REGISTRY_KEEP_EVENTS": "4"}
    alone = Stack(tmp_path_factory.mktemp("followed"), settings, beside=stack)
    yield alone
    alone.close()


def serves(user: User, version: str) -> Callable[[], bool]:
    return lambda: bool(user.alias("fares").serving_version == version)


async def test_a_canary_is_loaded_counted_and_promoted_and_going_back_takes_one_call(lonely: Stack, tmp_path: Path):
    user = lonely.newcomer()
    one, two = [(await call(user.publish, "fares")).version for _ in range(2)]
    async with following(lonely, "g", tmp_path / "cursor.json") as follower:
        await call(user.point, "fares", one)
        await come_true(serves(user, one), "the first version serves")
        share = pb.SetCanaryRequest(model="fares", alias="prod", version=two, percent=50)
        await call(user.api.SetCanary, share)

        def tried() -> bool:
            return [canary.state for canary in user.alias("fares").canaries] == [model_pb2.CANARY_STATE_SERVING]

        await come_true(tried, "the canary gets its share")
        assert follower.holds(one)
        assert follower.holds(two)
        # Held already: each flips in the call that asks for it.
        moved = await call(user.point, "fares", two)
        assert (moved.serving_version, moved.previous_version, len(moved.canaries)) == (two, one, 0)
        assert (await call(user.point, "fares", one)).serving_version == one


async def test_a_watcher_whose_place_in_the_history_is_gone_begins_anew(lonely: Stack, tmp_path: Path):
    user, cursor = lonely.newcomer(), tmp_path / "cursor.json"
    one, two = [(await call(user.publish, "fares")).version for _ in range(2)]
    await call(user.point, "fares", one)
    async with following(lonely, "again", cursor):
        await come_true(serves(user, one), "the first version serves")
        await come_true(lambda: Cursor(cursor).read() > 0, "the watcher remembers where it is")
    for number in range(6):
        await call(user.point, "fares", one, alias=f"a{number}")

    def cut() -> bool:
        try:
            kept = lonely.service().events_so_far()
        except grpc.RpcError:
            # It was cut while it was read.
            return False
        # Read here: the watcher's last note may be written after it was stopped.
        return min(event.sequence for event in kept) > Cursor(cursor).read() + 1

    await come_true(cut, "history is cut")
    before = Cursor(cursor).read()
    async with following(lonely, "again", cursor) as follower:
        await call(user.point, "fares", two)
        await come_true(serves(user, two), "the second version serves")
        assert "CURSOR_EXPIRED" in follower.log.reasons
        assert Cursor(cursor).read() > before


async def test_a_forced_deletion_is_told(lonely: Stack, tmp_path: Path):
    user = lonely.newcomer()
    one, two = [(await call(user.publish, "fares")).version for _ in range(2)]
    async with following(lonely, "told", tmp_path / "cursor.json") as follower:
        for version in (one, two):
            await call(user.point, "fares", version)
            await come_true(serves(user, version), "it serves")
        # What served before is kept for going back, so it is held.
        assert follower.holds(one)
        request = pb.DeleteVersionRequest(model="fares", version=one, force=True)
        await call(user.api.DeleteVersion, request)
        await come_true(lambda: follower.deletions == 1, "the generator heard of it")
        assert not (await call(user.alias, "fares")).previous_version
