"""A web server on the loopback that counts who connects, and answers as a test scripts it, byte for byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[str, dict[str, str], asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Web:
    """Where it listens, the requests that came (path and headers), and how many connections were made at all."""

    port: int = 0
    connections: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None, listen: str = "127.0.0.1") -> AsyncIterator[Web]:
    """Serve until the block ends; whoever is still being answered then is cut off."""
    web = Web()
    answering: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        web.connections += 1
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            path = head[0].split(" ")[1]
            web.requests.append((path, headers))
            await answer(path, headers, writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, listen, 0, ssl=tls)
    web.port = server.sockets[0].getsockname()[1]
    try:
        yield web
    finally:
        server.close()
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)


def response(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer; header names are written with `_` for `-`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def always(raw: bytes) -> Answer:
    """The same bytes to everybody."""

    async def answer(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return answer
