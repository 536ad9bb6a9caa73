"""Many open streams of one caller: ``python -m tests.load.gateway.receiver URL KEY STREAMS``.

A process of its own, which only counts: it opens the streams, says so when each has had a token, and from then on answers
each line of its input with what came in since.  Its answers are lines of JSON; it ends when its input closes.
"""

import asyncio
import json
import sys
from typing import cast
from urllib.parse import urlsplit

import uvloop

from tests.load.gateway.callers import chat_body, http_request

# Far more than any run waits for.
_TOKENS = 100_000
_EVENT = b"data: {"
# So many connections are made at once, or the listener's backlog overflows.
_AT_ONCE = 64
# As the refusals of a busy gateway say.
_RETRY_SECONDS = 1.0


class Stream(asyncio.Protocol):
    """Counts the events of one answer.  ``begun`` ends with its first token, or with what went wrong."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self._first = b""
        self.events = 0
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        # uvloop's are of a class of their own.
        cast("asyncio.WriteTransport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count, also what two reads share."""
        if not self.events:
            self._first += data
        data = self._rest + data
        self.events += data.count(_EVENT)
        self._rest = data[1 - len(_EVENT) :]
        # The first event only opens the turn.
        if not self.begun.done() and self.events > 1:
            self.begun.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        """One that is refused is asked for again; one that breaks later has no more tokens, and the least of any tells."""
        if not self.begun.done():
            self.begun.set_exception(ConnectionError(f"closed after {self.events} events: {self._first!r}"))


async def receive(url: str, key: str, count: int) -> None:
    """Open, tell, count."""
    loop = asyncio.get_running_loop()
    host, port = urlsplit(url).netloc.split(":")
    request = http_request(url, "/v1/chat/completions", key, chat_body(_TOKENS, stream=True))
    gate = asyncio.Semaphore(_AT_ONCE)

    refused = 0

    async def opened() -> Stream:
        nonlocal refused
        async with gate:
            while True:
                _, stream = await loop.create_connection(lambda: Stream(request), host, int(port))
                try:
                    await stream.begun
                except ConnectionError:
                    refused += 1
                    if refused > count:
                        raise
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    return stream

    streams = await asyncio.gather(*(opened() for _ in range(count)))
    _tell({"open": count, "refused": refused})
    before = [stream.events for stream in streams]
    while await asyncio.to_thread(sys.stdin.readline):
        now = [stream.events for stream in streams]
        each = [new - old for new, old in zip(now, before, strict=True)]
        before = now
        _tell({"tokens": sum(each), "least": min(each)})


def _tell(line: dict[str, int]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    uvloop.run(receive(sys.argv[1], sys.argv[2], int(sys.argv[3])))
