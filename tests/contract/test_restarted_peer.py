"""A peer that comes back is found at once, however long it was away: the retries outlast the channel's back-off."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium_client import NotYetAvailableError, UnavailableError
from trivium_client.connection import Connection
from trivium_client.transport import Transport

from services.chassis.channels import open_channel
from services.chassis.config import ServiceSettings

# By then the back-off has grown to its bound.
FAILED_ATTEMPTS = 8


def of_the_chassis(address: str) -> grpc.aio.Channel:
    return open_channel(address, ServiceSettings())


def of_the_client(address: str) -> grpc.aio.Channel:
    return Connection({"access": address}, api_key="").open("access")


@pytest.mark.parametrize("opened", [of_the_chassis, of_the_client])
async def test_a_peer_that_was_away_for_long_answers_the_first_call_after_its_return(
    opened: Callable[[str], grpc.aio.Channel],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        channel = opened(address)
        channel.get_state(try_to_connect=True)
        for _ in range(FAILED_ATTEMPTS):
            await hang_up(listener)
    # Just after a failed attempt the wait for the next one is at its longest.
    server = grpc.server(futures.ThreadPoolExecutor(1))
    access_pb2_grpc.add_AccessServiceServicer_to_server(access_pb2_grpc.AccessServiceServicer(), server)
    server.add_insecure_port(address)
    server.start()
    try:
        with pytest.raises(grpc.aio.AioRpcError) as answered:
            await access_pb2_grpc.AccessServiceStub(channel).GetSigningKeys(access_pb2.GetSigningKeysRequest())
        assert answered.value.code() is grpc.StatusCode.UNIMPLEMENTED, answered.value.details()
    finally:
        await channel.close()
        server.stop(None)


async def hang_up(listener: socket.socket) -> None:
    """Accept one connection and close it: an attempt that fails."""
    listener.setblocking(False)
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    connection.close()


# Longer than the retries of the service config, as a restart is.
AWAY_SECONDS = 5.0
Request = access_pb2.WhoAmIRequest | access_pb2.CreateKeyRequest | access_pb2.RevokeKeyRequest


def local_suite(folder: Path, address: str, pid: int, state: str = "ready") -> Connection:
    (folder / "run").mkdir()
    suite = {"pid": pid, "state": state, "services": {"access": {"listen": address}}}
    (folder / "run" / "suite.json").write_text(json.dumps(suite))
    return Connection.settled({"access": address}, "", folder)


async def called(connection: Connection, request: Request) -> None:
    transport = Transport(connection)
    stub = transport.stub("access", access_pb2_grpc.AccessServiceStub)
    try:
        await transport.call("access", getattr(stub, request.DESCRIPTOR.name.removesuffix("Request")), request)
    finally:
        await transport.close()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "request_", [access_pb2.WhoAmIRequest(), access_pb2.CreateKeyRequest(request_id="r")], ids=type
)
async def test_a_call_that_may_be_repeated_waits_for_a_service_that_its_suite_restarts(
    tmp_path: Path, request_: Request
) -> None:
    address = free_address()
    calling = asyncio.create_task(called(local_suite(tmp_path, address, os.getpid()), request_))
    await asyncio.sleep(AWAY_SECONDS)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    access_pb2_grpc.add_AccessServiceServicer_to_server(access_pb2_grpc.AccessServiceServicer(), server)
    server.add_insecure_port(address)
    server.start()
    try:
        with pytest.raises(NotYetAvailableError):
            await calling
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("request_", "pid", "state"),
    [
        (access_pb2.RevokeKeyRequest(key="k"), os.getpid(), "ready"),
        (access_pb2.WhoAmIRequest(), os.getpid(), "stopping"),
        # Over the largest that the kernel gives.
        (access_pb2.WhoAmIRequest(), 2**22 + 1, "ready"),
    ],
    ids=["what has a second effect", "a suite that ends", "a suite that is gone"],
)
async def test_nobody_waits_in_vain(tmp_path: Path, request_: Request, pid: int, state: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match="restarts a service within seconds"):
        await called(local_suite(tmp_path, free_address(), pid, state), request_)
    assert time.monotonic() - begun < AWAY_SECONDS
