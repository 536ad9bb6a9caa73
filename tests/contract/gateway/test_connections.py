"""Connections of the HTTP listener: whoever holds many of them that ask nothing shuts nobody out."""

import asyncio
import resource
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conformance.holding import as_served, held
from tests.conformance.tables.limits import ANSWERED, AsyncHttp
from tests.contract.chassis.test_tls import Authority
from tests.contract.gateway.test_strangers import ACME, client_of, connected
from tests.harness.timeouts import HANG_SECONDS

# Four times as many connections as calls.
ONE_CALL = {"max_calls": 1}


async def test_idle_connections_give_way_the_oldest_first(tmp_path: Path) -> None:
    async with held(tmp_path, **ONE_CALL) as doors, client_of(doors) as client:
        doors.behind.let_go()
        async with connected(doors, b"", count=6) as idle, connected(doors, b"GET /v1/models HTTP/1.1\r\n", count=6):
            for closed in idle:
                async with asyncio.timeout(HANG_SECONDS):
                    assert await closed.read() == b""
            assert await AsyncHttp(client, ACME).send("batch") == ANSWERED


async def test_what_is_under_way_gives_way_to_nobody(tmp_path: Path) -> None:
    async with held(tmp_path, **ONE_CALL) as doors, client_of(doors) as client, asyncio.TaskGroup() as group:
        chat = group.create_task(AsyncHttp(client, ACME).send("chat"))
        await doors.behind.until(1)
        async with connected(doors, b"", count=12) as idle:
            async with asyncio.timeout(HANG_SECONDS):
                assert await idle[0].read() == b""
            doors.behind.let_go()
            assert await chat == ANSWERED


async def test_a_head_without_end_is_not_kept(tmp_path: Path) -> None:
    async with held(tmp_path) as doors, client_of(doors) as client:
        doors.behind.let_go()
        endless = b"GET /v1/batches/b HTTP/1.1\r\nhost: x\r\nx-much: " + b"x" * 600_000
        async with connected(doors, endless) as (reader,), asyncio.timeout(HANG_SECONDS):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        # Much in a body is another thing.
        body = {"model": "m", "input": ["x" * 10_000] * 20}
        headers = {"authorization": f"Bearer {ACME}"}
        for _ in range(2):
            assert (await client.post("/v1/embeddings", json=body, headers=headers)).status_code == 200


async def test_the_process_takes_all_the_files_that_it_may_have(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        async with held(tmp_path):
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@as_served
async def test_a_handshake_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http.server._HANDSHAKE_SECONDS", 0.1)
    files = Authority.new(tmp_path / "tls").files("gateway")
    tls = {f"http_{name}": files[name] for name in ("tls_cert_file", "tls_key_file")}
    async with held(tmp_path, **tls) as doors, connected(doors, b"") as (reader,), asyncio.timeout(HANG_SECONDS):
        assert await reader.read() == b""
