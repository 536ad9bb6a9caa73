"""Who has no key holds nothing of the HTTP door, and who has one no more than the places of its tenant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.conformance.holding import Doors, held
from tests.conformance.tables.limits import ANSWERED, AsyncHttp, stalled
from tests.harness.timeouts import HANG_SECONDS

ACME, GLOBEX = "key-of-acme", "key-of-globex"


@asynccontextmanager
async def client_of(doors: Doors) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{doors.http}", timeout=30) as client:
        yield client


def promising(doors: Doors, path: str, key: str = "") -> httpx.Request:
    """A request whose head promises a body."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Request("POST", f"http://{doors.http}{path}", headers=headers, content=b"x" * 9)


@asynccontextmanager
async def connected(doors: Doors, said: bytes, count: int = 1) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections that have said this, and say no more."""
    host, _, port = doors.http.rpartition(":")
    async with AsyncExitStack() as connections:
        readers = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port))
            connections.callback(writer.close)
            writer.write(said)
            readers.append(reader)
        yield readers


def head(path: str, key: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 9\r\n\r\n".encode()


async def inside(doors: Doors, count: int) -> None:
    """Wait until so many calls have a place."""
    async with client_of(doors) as client, asyncio.timeout(HANG_SECONDS):
        while doors.server.layers.admission.in_flight != count:
            await client.get("/healthz")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/files"])
@pytest.mark.parametrize("key", ["", "nobody's"])
async def test_who_is_unknown_is_told_so_before_a_body_comes(tmp_path: Path, path: str, key: str) -> None:
    async with held(tmp_path) as doors:
        answer = await stalled(promising(doors, path, key), b"")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_bodies_of_strangers_that_never_come_hold_no_place(tmp_path: Path) -> None:
    async with held(tmp_path, max_calls=1) as doors, client_of(doors) as client:
        async with connected(doors, head("/v1/completions", "nobody's"), count=3) as readers:
            for reader in readers:
                async with asyncio.timeout(HANG_SECONDS):
                    assert b"401" in await reader.readline()
            doors.behind.let_go()
            assert await AsyncHttp(client, ACME).send("batch") == ANSWERED


async def test_bodies_of_one_tenant_that_do_not_come_hold_its_own_places(tmp_path: Path) -> None:
    limits = {"max_calls_per_tenant": 1, "max_streams_per_tenant": 1, "max_calls": 3}
    async with held(tmp_path, **limits) as doors, client_of(doors) as client:
        ours, theirs = AsyncHttp(client, ACME), AsyncHttp(client, GLOBEX)
        doors.behind.let_go()
        async with connected(doors, head("/v1/embeddings", ACME)), connected(doors, head("/v1/chat/completions", ACME)):
            await inside(doors, 2)
            assert await ours.send("batch") == "tenant_calls_exhausted"
            assert await ours.send("whole_chat") == "tenant_streams_exhausted"
            assert [await theirs.send("batch"), await theirs.send("whole_chat")] == [ANSWERED, ANSWERED]
        # They have left in their bodies.
        await inside(doors, 0)
        assert [await ours.send("batch"), await ours.send("whole_chat")] == [ANSWERED, ANSWERED]


async def test_a_full_door_says_so_before_a_body_comes_and_whoever_supervises_still_asks(tmp_path: Path) -> None:
    async with held(tmp_path, max_calls=1) as doors, client_of(doors) as client, asyncio.TaskGroup() as group:
        chat = group.create_task(AsyncHttp(client, ACME).send("chat"))
        await doors.behind.until(1)
        for key in (GLOBEX, "nobody's"):
            answer = await stalled(promising(doors, "/v1/completions", key), b"")
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["type"]) == (503, "overloaded", "server_error")
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["x-should-retry"] == "true"
        assert (await client.get("/healthz")).status_code == 200
        doors.behind.let_go()
        assert await chat == ANSWERED


async def test_a_body_that_does_not_come_is_given_up_and_its_place_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.connection._BODY_SECONDS", 0.05)
    async with held(tmp_path) as doors:
        answer = await stalled(promising(doors, "/v1/embeddings", ACME), b"{")
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_late")
        assert answer.headers["connection"] == "close"
        await inside(doors, 0)


async def test_a_body_over_the_limit_is_not_read(tmp_path: Path) -> None:
    async with held(tmp_path, max_message_bytes=1024) as doors, client_of(doors) as client:
        headers = {"authorization": f"Bearer {ACME}"}
        answer = await client.post("/v1/chat/completions", content=b" " * 2000, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        # The connection is good for more.
        doors.behind.let_go()
        assert await AsyncHttp(client, ACME).send("whole_chat") == ANSWERED


async def test_who_asks_is_asked_for_once_a_request(tmp_path: Path) -> None:
    async with held(tmp_path) as doors, client_of(doors) as client:
        doors.behind.let_go()
        for verb in ("whole_chat", "batch", "embed"):
            before = doors.keys.asked
            told = await AsyncHttp(client, ACME).send(verb)
            assert (told, doors.keys.asked - before) == (ANSWERED, 1)
