"""A peer that comes back is found at once, however long it was away: the retries outlast the channel's back-off."""

import asyncio
import socket
from collections.abc import Callable
from concurrent import futures

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium_client.connection import Connection

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
