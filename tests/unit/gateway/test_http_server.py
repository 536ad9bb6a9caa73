"""The listener of the HTTP door: what offers it another protocol is answered as any request, and writes nothing in the log."""

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.http import server
from gateway.http.protocol import OneProtocol
from gateway.http.server import serving
from tests.harness.timeouts import HANG_SECONDS


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await request.body(), status_code=405)


@pytest.fixture(params=[OneProtocol, "h11"], ids=["httptools", "h11"])
async def listening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, int]]:
    assert server._http() is OneProtocol
    monkeypatch.setattr(server, "_http", lambda: request.param)
    settings = SimpleNamespace(
        http_listen="127.0.0.1:0",
        http_tls_cert_file=None,
        http_tls_key_file=None,
        http_tls_ended_before=False,
        max_calls=8,
    )
    runtime: Any = SimpleNamespace(settings=settings, spawn=lambda work, name: asyncio.create_task(work, name=name))
    async with serving(Starlette(routes=[Route("/v1/responses", echo, methods=["GET", "POST"])]), runtime) as address:
        host, _, port = address.rpartition(":")
        yield host, int(port)


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The number and the body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
async def test_whoever_asks_for_another_protocol_is_answered_in_this_one_and_the_log_stays_empty(
    listening: tuple[str, int], protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    reader, writer = await asyncio.open_connection(*listening)
    asked = f"host: x\r\nconnection: upgrade\r\nupgrade: {protocol}\r\nsec-websocket-key: eA==\r\n"
    async with asyncio.timeout(HANG_SECONDS):
        # The connection goes on as it began.
        for _ in range(2):
            writer.write(f"GET /v1/responses HTTP/1.1\r\n{asked}\r\n".encode())
            assert await answered(reader) == (405, b"")
        writer.close()
        await writer.wait_closed()
    assert [record.getMessage() for record in caplog.records] == []


async def test_what_is_no_http_at_all_is_still_told(
    listening: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection(*listening)
    writer.write(b"nonsense\r\n\r\n")
    async with asyncio.timeout(HANG_SECONDS):
        assert b"400" in await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert ["Invalid HTTP request" in record.getMessage() for record in caplog.records] == [True]


BODIES = [b"content-length: 4\r\n\r\nsaid", b"transfer-encoding: chunked\r\n\r\n2\r\nsa\r\n2\r\nid\r\n0\r\n\r\n"]


@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by the byte", "in pieces", "at once"])
@pytest.mark.parametrize("body", BODIES, ids=["whole", "chunked"])
async def test_a_body_behind_an_offer_is_read_and_is_not_the_next_request(
    listening: tuple[str, int], body: bytes, size: int
) -> None:
    reader, writer = await asyncio.open_connection(*listening)
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
    head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\n"
    plain, last = head + body, b"GET /v1/responses HTTP/1.1\r\nhost: x\r\n\r\n"
    sent = b"".join((head, offer, body, plain, head, offer, body, last))
    async with asyncio.timeout(HANG_SECONDS):
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await writer.drain()
        for expected in (b"said", b"said", b"said", b""):
            assert await answered(reader) == (405, expected)
        writer.close()
        await writer.wait_closed()


async def test_a_length_that_is_none_is_refused_behind_an_offer_too(listening: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*listening)
    head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    writer.write(head + b"transfer-encoding: chunked\r\n\r\nzz\r\n")
    async with asyncio.timeout(HANG_SECONDS):
        assert b"400" in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_who_asks_for_much_at_once_is_answered_wherever_a_piece_ends(listening: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*listening)
    one = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\nx-much: " + b"x" * 4000 + b"\r\ncontent-length: 4\r\n\r\nsaid"
    async with asyncio.timeout(HANG_SECONDS):
        # In the last head, and with more than a head may have.
        writer.write(one * 40 + one[:30])
        for _ in range(40):
            assert await answered(reader) == (405, b"said")
        writer.write(one[30:])
        assert await answered(reader) == (405, b"said")
        writer.close()
        await writer.wait_closed()
