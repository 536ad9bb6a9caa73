"""A generator that dies or hangs under an answer, as a client of the HTTP door sees it: another answers, or a clean end."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc

from gateway.replicas.hedging import LEAST
from tests.harness.gateway_in_process import gateway_alone
from tests.unit.gateway.replica import Replica

# A client learns of a replica's death within the time of this many of the shortest requests: about a second on an idle machine.
SHORTEST_REQUESTS = 300
# Far longer than the settings below would have a second replica asked after.
HEDGED_SECONDS = 1.0
HELLO: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


async def _events(client: Any, token: str, told: asyncio.Event) -> list[Any]:
    """The events of one streamed answer; ``told`` is set with the first text."""
    events = []
    headers = {"authorization": f"Bearer {token}"}
    async with client.stream("POST", "/v1/chat/completions", json=HELLO, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            data = line.removeprefix("data: ")
            events.append(data if data == "[DONE]" else json.loads(data))
            if '"content"' in data:
                told.set()
    return events


def _text(events: list[Any]) -> str:
    choices = [choice for event in events if isinstance(event, dict) for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_a_client_hears_of_a_generator_that_dies_only_once_it_has_been_told_something(tmp_path):
    replicas = [Replica("a"), Replica("b")]
    addresses = ",".join([await replica.start() for replica in replicas])
    async with gateway_alone(tmp_path, generator_address=addresses) as (_, client, sign):
        for stops_after in (1, 2):
            for replica in replicas:
                replica.asked, replica.stops_after = 0, stops_after
                replica.stopped.clear()
            told = asyncio.Event()
            asked = asyncio.create_task(_events(client, sign("member"), told))
            stopped = [asyncio.create_task(replica.stopped.wait()) for replica in replicas]
            await asyncio.wait(stopped, return_when=asyncio.FIRST_COMPLETED)
            dying, other = sorted(replicas, key=lambda replica: not replica.stopped.is_set())
            other.stops_after = None
            if stops_after > 1:
                await told.wait()
            await dying.kill()
            requests = 0
            while not asked.done():
                await client.get("/healthz")
                requests += 1
            events = await asked
            for task in stopped:
                task.cancel()
            if stops_after == 1:
                assert (_text(events), events[-1]) == (other.name * 3, "[DONE]")
                assert other.asked == 1
                await dying.start()
                continue
            assert requests < SHORTEST_REQUESTS
            assert _text(events) == dying.name
            assert events[-1]["error"]["code"] == "peer_unavailable"
            assert (events[-1]["error"]["param"], other.asked) == (None, 0)
    for replica in replicas:
        await replica.kill()


class Access(access_pb2_grpc.AccessServiceServicer):
    """What lets the gateway hear, as the service that it is, what its replicas hold."""

    async def ExchangeKey(self, request: Any, context: Any) -> access_pb2.ExchangeKeyResponse:
        assertion = access_pb2.Assertion(token="the gateway's own")
        assertion.expire_time.FromSeconds(int(time.time()) + 600)
        return access_pb2.ExchangeKeyResponse(assertion=assertion)


@pytest.mark.parametrize(
    ("settings", "answers"),
    [({"hedge_share": 1.0}, "b"), ({"hedge_share": 0.0}, ""), ({"hedge_share": 1.0, "hedge_quantile": 0.0}, "")],
    ids=["as often as it hangs", "of no share of requests", "never"],
)
async def test_a_generator_that_hangs_is_not_waited_for_where_the_settings_say_so(tmp_path, settings, answers):
    key_file = tmp_path / "service.key"
    key_file.write_text("tv_service_key")
    # The one that is not busy is asked first.
    hangs, other = Replica("a"), Replica("b", answers=1)
    further = {"service_key_file": key_file, "hedge_floor_seconds": 0.0, **settings}
    async with AsyncExitStack() as stack:
        addresses = []
        for replica in (hangs, other):
            addresses.append(await replica.start())
            stack.push_async_callback(replica.kill)
        further |= {"generator_address": ",".join(addresses), "access_address": await _access(stack)}
        _, client, sign = await stack.enter_async_context(gateway_alone(tmp_path, **further))
        await stack.enter_async_context(asyncio.timeout(60))
        for replica in (hangs, other):
            await replica.watched.wait()
        # How long a first message takes is known only then.
        for _ in range(LEAST):
            assert _text(await _events(client, sign("member"), asyncio.Event()))
        hangs.stops_after, other.asked = 0, 0
        asked = asyncio.create_task(_events(client, sign("member"), asyncio.Event()))
        stack.callback(asked.cancel)
        await hangs.stopped.wait()
        if answers:
            assert (_text(await asked), other.asked) == (answers * 3, 1)
            await hangs.cancelled.wait()
        else:
            await asyncio.wait([asked], timeout=HEDGED_SECONDS)
            assert other.asked == 0
            hangs.goes_on.set()
            assert _text(await asked) == "aaa"


async def _access(stack: AsyncExitStack) -> str:
    """Its address, until the stack ends."""
    access = grpc.aio.server()
    access_pb2_grpc.add_AccessServiceServicer_to_server(Access(), access)
    port = access.add_insecure_port("127.0.0.1:0")
    await access.start()
    stack.push_async_callback(access.stop, None)
    return f"127.0.0.1:{port}"
