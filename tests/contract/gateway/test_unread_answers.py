"""Who does not read what it is answered: it keeps no connection from others, and no place for long; who is slow keeps both."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from gateway.http.connections import Connections
from tests.conformance.holding import Doors, as_served, held
from tests.conformance.tables.limits import ANSWERED, AsyncHttp
from tests.contract.gateway.test_connections import ONE_CALL
from tests.contract.gateway.test_strangers import ACME, client_of, connected, inside
from tests.harness.timeouts import HANG_SECONDS

# More than the system takes of an answer that nobody reads.
MUCH = [bytes(1 << 20)] * 8
DOCUMENTS = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 50
DOWNLOAD = f"GET /v1/files/file-1/content HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ACME}\r\n\r\n".encode()
# The connection ends with its answer.
DOWNLOAD_ALONE = DOWNLOAD[:-2] + b"connection: close\r\n\r\n"


@asynccontextmanager
async def unread(doors: Doors, said: bytes, count: int = 1) -> AsyncIterator[list[socket.socket]]:
    """Connections that have said this, and of whose answers nothing is read."""
    host, _, port = doors.http.rpartition(":")
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as connections:
        said_by = []
        for _ in range(count):
            one = connections.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            one.setblocking(False)
            await loop.sock_connect(one, (host, int(port)))
            await loop.sock_sendall(one, said)
            said_by.append(one)
        yield said_by


def until_closed(one: socket.socket, slowly: int = 0) -> int:
    """How many bytes come before the end, of which so many are read ``slowly``."""
    size_bytes = 0
    one.settimeout(HANG_SECONDS)
    while piece := one.recv(1 << 14):
        size_bytes += len(piece)
        if size_bytes < slowly:
            # A reader that takes its time: some 640 kB a second.
            time.sleep(0.025)
    return size_bytes


@as_served
async def test_who_reads_no_answer_and_holds_no_place_gives_way(tmp_path: Path) -> None:
    async with held(tmp_path, **ONE_CALL) as doors, client_of(doors) as client, unread(doors, DOCUMENTS, count=6):
        doors.behind.let_go()
        told = ""
        async with asyncio.timeout(HANG_SECONDS):
            while told != ANSWERED:
                # As long as these are still answered, none is free.
                with suppress(httpx.TransportError):
                    told = await AsyncHttp(client, ACME).send("batch")


@as_served
async def test_who_reads_no_answer_but_holds_a_place_gives_way_to_nobody(tmp_path: Path) -> None:
    async with held(tmp_path, **ONE_CALL) as doors, unread(doors, DOWNLOAD_ALONE) as (one,):
        doors.behind.pieces = MUCH
        doors.behind.let_go()
        await inside(doors, 1)
        await asyncio.sleep(0.05)
        async with connected(doors, b"", count=12) as idle, asyncio.timeout(HANG_SECONDS):
            assert await idle[0].read() == b""
        assert await asyncio.to_thread(until_closed, one) > sum(map(len, MUCH))


@pytest.mark.parametrize("said", [DOCUMENTS, DOWNLOAD, DOWNLOAD * 3], ids=["documents", "a place", "a place and more"])
@as_served
async def test_an_answer_of_which_nothing_is_read_ends_and_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    closed = asyncio.Event()
    monkeypatch.setattr("gateway.http.connections._UNREAD_SECONDS", 0.1)
    monkeypatch.setattr(Connections, "leave", lambda *_: closed.set())
    async with held(tmp_path) as doors, unread(doors, said):
        doors.behind.pieces = MUCH
        doors.behind.let_go()
        async with asyncio.timeout(HANG_SECONDS):
            await closed.wait()
        await inside(doors, 0)
    assert "Exception" not in caplog.text


@as_served
async def test_who_leaves_is_missed_where_it_has_asked_for_more(tmp_path: Path) -> None:
    async with held(tmp_path) as doors:
        async with unread(doors, DOWNLOAD + DOCUMENTS):
            await doors.behind.until(1)
        await doors.behind.until(0)


@as_served
async def test_an_answer_that_is_read_slowly_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http.connections._UNREAD_SECONDS", 0.4)
    async with held(tmp_path) as doors, unread(doors, DOWNLOAD_ALONE) as (one,):
        doors.behind.pieces = MUCH
        doors.behind.let_go()
        assert await asyncio.to_thread(until_closed, one, slowly=600_000) > sum(map(len, MUCH))


@as_served
async def test_who_asks_for_more_than_it_reads_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    much = DOWNLOAD + b"GET / HTTP/1.1\r\n\r\n" * 70
    async with held(tmp_path) as doors, connected(doors, much + b"nonsense\r\n\r\n") as (reader,):
        with suppress(ConnectionResetError):
            async with asyncio.timeout(HANG_SECONDS):
                assert await reader.read() == b""
        await inside(doors, 0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
