"""Batches over a shop, with a door that says what a test wants."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from services.chassis.context import Rights, Role, Scope
from services.chassis.errors import Failure
from services.chassis.idempotency import IdempotencyKey
from services.chassis.logs import logger
from services.files.batches.asking import Answer, Later
from services.files.batches.batch import Batch, Creator, Endpoint, Order
from services.files.batches.batches import Batches
from services.files.batches.outputs import Outputs
from services.files.batches.pace import Pace
from services.files.batches.runner import Clocks, Means, Measures, Runner
from services.files.batches.runs import Runs
from services.files.files import Purpose
from tests.unit.files.shop import Shop

ANYTIME = IdempotencyKey("t", "CreateBatch", "", b"")
ANNA = Creator("anna", Rights(frozenset({Role.MEMBER}), frozenset({Scope.INFERENCE, Scope.FILES_WRITE})))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
Say = Callable[[int, int], Answer | Later | Exception]


class Gateway:
    """A door that says what a test wants: of the line's number and how often it was asked."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.asked: list[int] = []
        self.ids: dict[int, set[str]] = {}
        self.assertions: set[str] = set()
        self.open = self.most_open = 0
        self.held: set[int] = set()

    async def ask(self, endpoint: Endpoint, body: bytes, request_id: str, assertion: str) -> Answer | Later:
        number = json.loads(body)["n"]
        self.asked.append(number)
        self.ids.setdefault(number, set()).add(request_id)
        self.assertions.add(assertion)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(0)
            if number in self.held:
                await asyncio.Event().wait()
            said = self._say(number, Counter(self.asked)[number])
            if isinstance(said, Exception):
                raise said
            return said
        finally:
            self.open -= 1


def answered(number: int, _: int) -> Answer | Later | Exception:
    return Answer(200, {"n": number, "usage": USAGE})


class Office:
    """Batches over a shop."""

    def __init__(self, shop: Shop, gateway: Gateway, holder: str = "one", at_once: int = 8) -> None:
        self.shop = shop
        self.refused: Failure | None = None
        self.runs = Runs(shop.database, holder, 30.0, 2, lambda: shop.now)
        outputs = Outputs(self.runs, shop.files, shop.blobs, shop.folder / "staging")
        clock = asyncio.get_running_loop().time
        self.pace = Pace(2, clock)
        means = Means(self.runs, outputs, shop.blobs, gateway, self.pace, self.acting_for)
        measures = Measures(at_once, 2, 0.02, 10.0, 0.0)
        self.runner = Runner(means, measures, Clocks(lambda: shop.now, clock), logger("files"), again_seconds=0.01)
        self.batches = Batches(shop.database, shop.files, 3, lambda: shop.now, shop.new_id, self.runner.wake)

    @asynccontextmanager
    async def acting_for(self, tenant: str, creator: Creator) -> AsyncIterator[Any]:
        if self.refused is not None:
            raise self.refused
        self.assertion = f"{creator.principal} of {tenant}"
        self.acted = creator
        yield self

    async def order(self, count: int, content: bytes = b"", **changes: Any) -> str:
        text = content or lines(*range(1, count + 1))
        self.input = await self.shop.store(text, purpose=Purpose.BATCH)
        order = Order(self.input, Endpoint.COMPLETIONS, 3600, 3600, **changes)
        return (await self.batches.create("t", ANNA, order, ANYTIME)).batch

    async def order_of(self, tenant: str, content: bytes) -> str:
        """A batch of another tenant's."""
        file = await self.shop.store(content, purpose=Purpose.BATCH, tenant=tenant)
        order = Order(file, Endpoint.COMPLETIONS, 3600, 3600)
        return (await self.batches.create(tenant, ANNA, order, IdempotencyKey(tenant, "CreateBatch", "", b""))).batch

    async def until(self, batch: str, holds: Callable[[Batch], bool], tenant: str = "t") -> Batch:
        """Run until something holds of the batch."""
        async with self.running():
            return await self.seen(batch, holds, tenant)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.runner.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def seen(self, batch: str, holds: Callable[[Batch], bool], tenant: str) -> Batch:
        """Look until something holds of the batch."""
        for _ in range(3000):
            if holds(found := await self.batches.get(tenant, batch)):
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"never held of {found}")

    async def ended(self, batch: str, tenant: str = "t") -> Batch:
        return await self.until(batch, lambda found: found.ended_at is not None, tenant)

    async def lines(self, file: str) -> list[dict[str, Any]]:
        content = b"".join([piece.content async for piece in self.shop.files.read("t", file, 0)])
        return [json.loads(line) for line in content.splitlines()]


def lines(*numbers: int, model: str = "base") -> bytes:
    """A batch's input."""
    whole = [
        {"custom_id": f"c{n}", "method": "POST", "url": "/v1/completions", "body": {"model": model, "n": n}}
        for n in numbers
    ]
    return "\n".join(map(json.dumps, whole)).encode()
