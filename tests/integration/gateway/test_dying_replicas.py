"""A generator that dies under an answer, as a client of the HTTP door sees it: another one answers, or a clean end."""

import asyncio
import json
import time
from typing import Any

from tests.integration.gateway.test_without_peers import gateway_alone
from tests.unit.gateway.replica import Replica

# Far under it where nothing else runs; the promise.
SECONDS = 1.0
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
            began = time.monotonic()
            await dying.kill()
            events = await asked
            for task in stopped:
                task.cancel()
            if stops_after == 1:
                assert (_text(events), events[-1]) == (other.name * 3, "[DONE]")
                assert other.asked == 1
                await dying.start()
                continue
            assert time.monotonic() - began < SECONDS
            assert _text(events) == dying.name
            assert events[-1]["error"]["code"] == "peer_unavailable"
            assert (events[-1]["error"]["param"], other.asked) == (None, 0)
    for replica in replicas:
        await replica.kill()
