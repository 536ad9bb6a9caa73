"""Batches ask a gateway that serves HTTPS itself: who vouches for it, and what is told when nobody does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.http.server import serving
from services.chassis.errors import Unstartable
from services.files.batches.asking import Answer, Later
from services.files.batches.batch import Endpoint
from services.files.door import GatewayDoor
from tests.contract.chassis.test_tls import Authority


class Lines:
    """A log whose lines a test reads."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **values: Any) -> None:
        self.said.append((event, values))

    info = warning


async def _answer(request: Request) -> JSONResponse:
    return JSONResponse({"asked": await request.json(), "by": request.headers["authorization"]})


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.new(tmp_path / "authority")


@pytest.fixture
async def port(authority: Authority) -> AsyncIterator[str]:
    """The port of a gateway's listener with a certificate for trivium and 127.0.0.1."""
    files = authority.files("trivium")
    settings = SimpleNamespace(
        http_listen="127.0.0.1:0",
        http_tls_cert_file=files["tls_cert_file"],
        http_tls_key_file=files["tls_key_file"],
        http_tls_ended_before=False,
        max_calls=8,
    )
    runtime: Any = SimpleNamespace(settings=settings, spawn=lambda work, name: asyncio.create_task(work, name=name))
    app = Starlette(routes=[Route(Endpoint.COMPLETIONS, _answer, methods=["POST"])])
    async with serving(app, runtime) as address:
        yield address.rpartition(":")[2]


async def _asked(url: str, ca_file: Path | None) -> tuple[list[Answer | Later], list[tuple[str, dict[str, Any]]]]:
    """What the door says, three times, and what it told the operator meanwhile."""
    log: Any = Lines()
    async with GatewayDoor(url, log, ca_file) as door:
        said = [await door.ask(Endpoint.COMPLETIONS, b'{"n": 1}', "id", "eyJ") for _ in range(3)]
    return said, log.said


async def test_a_private_authoritys_word_on_the_gateways_certificate_is_taken_once_it_is_named(
    authority: Authority, port: str
) -> None:
    said, told = await _asked(f"https://127.0.0.1:{port}", authority.folder / "ca.pem")
    assert said == [Answer(200, {"asked": {"n": 1}, "by": "Bearer eyJ"})] * 3
    assert told == []


@pytest.mark.parametrize("case", ["no authority named", "another authority", "another name"])
async def test_a_gateway_for_which_nobody_vouches_hears_no_assertion_and_the_operator_reads_why_once(
    authority: Authority, port: str, tmp_path: Path, case: str
) -> None:
    host, ca_file = "127.0.0.1", authority.folder / "ca.pem"
    if case == "another authority":
        ca_file = Authority.new(tmp_path / "another").folder / "ca.pem"
    elif case == "another name":
        host = "localhost"
    url = f"https://{host}:{port}"
    said, told = await _asked(url, None if case == "no authority named" else ca_file)
    assert said == [Later()] * 3
    ((event, values),) = told
    assert (event, values["url"].rstrip("/")) == ("gateway_away", url)
    assert "CERTIFICATE_VERIFY_FAILED" in values["why"]


async def test_a_gateway_that_is_back_is_told_too() -> None:
    log: Any = Lines()
    replies: list[Any] = [b"no JSON", b"", b"{}", b"{}"]

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = replies.pop(0)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as listener:
        address = listener.sockets[0].getsockname()
        async with GatewayDoor(f"http://127.0.0.1:{address[1]}", log) as door:
            said = [await door.ask(Endpoint.COMPLETIONS, b"{}", "id", "eyJ") for _ in range(4)]
    assert said == [Later(), Later(), Answer(200, {}), Answer(200, {})]
    assert [event for event, _ in log.said] == ["gateway_away", "gateway_back"]


@pytest.mark.parametrize("text", [None, "no certificate\n"])
def test_a_file_that_holds_no_authority_stops_the_service_and_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    log: Any = Lines()
    with pytest.raises(Unstartable, match="TRIVIUM_FILES_GATEWAY_CA_FILE") as refused:
        GatewayDoor("https://127.0.0.1:1", log, path)
    assert str(path) in str(refused.value)
