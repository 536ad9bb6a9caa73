"""A peer that comes back is found at once, however long it was away: the retries outlast the channel's back-off."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium_client import NotYetAvailableError, UnavailableError
from trivium_client.connection import Connection
from trivium_client.transport import Transport

from services.chassis.channels import channel_options, open_channel, service_config
from services.chassis.config import ServiceSettings
from tests.harness.clock import OffsetClock
from tests.harness.ports import reserved_address

# By then the back-off has grown to its bound; gRPC's own would have grown to seven seconds.
FAILED_ATTEMPTS = 4
# A machine that is busy for a moment may cost one trial; a back-off that is too long costs all of them.
TRIALS = 3
# gRPC spreads its waits by a fifth in both directions.
JITTER = 0.2
# Callers of these retry, and must learn soon that access is unavailable.
REPEATED_BY_CALLERS = {"LeaseAllowances", "RecordUsages"}


def of_the_chassis(address: str) -> grpc.aio.Channel:
    return open_channel(address, ServiceSettings())


def of_the_client(address: str) -> grpc.aio.Channel:
    return Connection({"access": address}, api_key="").open("access")


@contextmanager
def serving(address: str) -> Iterator[None]:
    """Access, none of whose methods is implemented."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    access_pb2_grpc.add_AccessServiceServicer_to_server(access_pb2_grpc.AccessServiceServicer(), server)
    server.add_insecure_port(address)
    server.start()
    try:
        yield
    finally:
        server.stop(None)


def test_the_retries_of_a_method_last_longer_than_the_longest_back_off() -> None:
    longest_seconds = dict(channel_options(ServiceSettings()))["grpc.max_reconnect_backoff_ms"] / 1000 * (1 + JITTER)
    policies = [method for method in json.loads(service_config())["methodConfig"] if "retryPolicy" in method]
    too_short = [method for method in policies if shortest_retries_seconds(method["retryPolicy"]) <= longest_seconds]
    assert len(too_short) < len(policies)
    assert {name.get("method") for method in too_short for name in method["name"]} == REPEATED_BY_CALLERS


def shortest_retries_seconds(policy: dict[str, Any]) -> float:
    """How long the waits between all attempts take at least."""
    first, most = (float(policy[name].removesuffix("s")) for name in ("initialBackoff", "maxBackoff"))
    waits = accumulate(
        range(policy["maxAttempts"] - 2), lambda wait, _: wait * policy["backoffMultiplier"], initial=first
    )
    return sum(min(wait, most) for wait in waits) * (1 - JITTER)


@pytest.mark.parametrize("opened", [of_the_chassis, of_the_client])
async def test_a_peer_that_was_away_for_long_answers_the_first_call_after_its_return(
    opened: Callable[[str], grpc.aio.Channel],
) -> None:
    answers: list[grpc.StatusCode] = []
    while len(answers) < TRIALS and grpc.StatusCode.UNIMPLEMENTED not in answers:
        answers.append(await answer_after_return(opened))
    assert answers[-1] is grpc.StatusCode.UNIMPLEMENTED, answers


async def answer_after_return(opened: Callable[[str], grpc.aio.Channel]) -> grpc.StatusCode:
    """How a server that came back just after a failed attempt answers, when the wait for the next is at its longest."""
    with reserved_address() as address:
        channel = opened(address)
        try:
            with listening(address) as listener:
                channel.get_state(try_to_connect=True)
                for _ in range(FAILED_ATTEMPTS):
                    await hang_up(listener)
            with serving(address), pytest.raises(grpc.aio.AioRpcError) as answered:
                await access_pb2_grpc.AccessServiceStub(channel).GetSigningKeys(access_pb2.GetSigningKeysRequest())
            return answered.value.code()
        finally:
            await channel.close()


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A listener at a reserved address."""
    host, _, port = address.partition(":")
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        yield listener


async def hang_up(listener: socket.socket) -> None:
    """Accept one connection and close it: an attempt that fails."""
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    connection.close()


# A supervisor has a killed service back after about as long.
RESTART_SECONDS = 5.0
# Nothing that takes so long comes back soon.
HOPELESS_SECONDS = 60.0
# Each takes over a second.
MOST_ROUNDS = 10
Request = access_pb2.WhoAmIRequest | access_pb2.CreateKeyRequest | access_pb2.RevokeKeyRequest


def local_suite(folder: Path, address: str, pid: int, state: str = "ready") -> Connection:
    (folder / "run").mkdir()
    suite = {"pid": pid, "state": state, "services": {"access": {"listen": address}}}
    (folder / "run" / "suite.json").write_text(json.dumps(suite))
    return Connection.settled({"access": address}, "", folder)


def moved_loop(monkeypatch: pytest.MonkeyPatch) -> OffsetClock:
    """Let the test move the time of its loop forward."""
    loop = asyncio.get_running_loop()
    clock = OffsetClock(loop.time)
    monkeypatch.setattr(loop, "time", clock)
    return clock


class Caller:
    """Makes one call, counts its rounds of the service config's retries, and says when one has failed."""

    def __init__(self, connection: Connection) -> None:
        self._transport = Transport(connection)
        self.begun, self.failed = asyncio.Event(), asyncio.Event()
        self.rounds = 0

    async def call(self, request: Request) -> None:
        """Make the call.  Raises TriviumError."""
        stub = self._transport.stub("access", access_pb2_grpc.AccessServiceStub)
        method = getattr(stub, request.DESCRIPTOR.name.removesuffix("Request"))

        async def counted(*given: Any, **named: Any) -> Any:
            self.rounds += 1
            self.begun.set()
            assert self.rounds <= MOST_ROUNDS, "it goes on for ever"
            try:
                return await method(*given, **named)
            except grpc.aio.AioRpcError:
                self.failed.set()
                raise

        try:
            await self._transport.call("access", counted, request)  # type: ignore[arg-type]  # it is only called
        finally:
            await self._transport.close()


@pytest.mark.parametrize(
    "request_", [access_pb2.WhoAmIRequest(), access_pb2.CreateKeyRequest(request_id="r")], ids=type
)
async def test_a_call_that_may_be_repeated_waits_for_a_service_that_its_suite_restarts(
    tmp_path: Path, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = moved_loop(monkeypatch)
    with reserved_address() as address:
        caller = Caller(local_suite(tmp_path, address, os.getpid()))
        calling = asyncio.create_task(caller.call(request_))
        await caller.begun.wait()
        clock.advance(RESTART_SECONDS)
        await asyncio.wait({calling, asyncio.create_task(caller.failed.wait())}, return_when=asyncio.FIRST_COMPLETED)
        with serving(address), pytest.raises(NotYetAvailableError):
            await calling
    assert caller.rounds > 1


async def test_a_call_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = moved_loop(monkeypatch)
    with reserved_address() as address:
        caller = Caller(local_suite(tmp_path, address, os.getpid()))
        calling = asyncio.create_task(caller.call(access_pb2.WhoAmIRequest()))
        await caller.begun.wait()
        clock.advance(HOPELESS_SECONDS)
        with pytest.raises(UnavailableError) as raised:
            await calling
    assert (raised.value.reason, caller.rounds) == ("UNAVAILABLE", 1)


# By what it is that would make waiting vain: the request, the suite's process, the suite's state.
IN_VAIN: dict[str, tuple[Request, int, str]] = {
    "what has a second effect": (access_pb2.RevokeKeyRequest(key="k"), os.getpid(), "ready"),
    "a suite that ends": (access_pb2.WhoAmIRequest(), os.getpid(), "stopping"),
    # Over the largest that the kernel gives.
    "a suite that is gone": (access_pb2.WhoAmIRequest(), 2**22 + 1, "ready"),
}


async def test_nobody_waits_in_vain(tmp_path: Path) -> None:
    async def rounds_of(name: str, address: str) -> tuple[str, int]:
        request, pid, state = IN_VAIN[name]
        folder = tmp_path / name
        folder.mkdir()
        caller = Caller(local_suite(folder, address, pid, state))
        with pytest.raises(UnavailableError) as raised:
            await caller.call(request)
        return raised.value.reason, caller.rounds

    with reserved_address() as address:
        ended = await asyncio.gather(*(rounds_of(name, address) for name in IN_VAIN))
    assert dict(zip(IN_VAIN, ended, strict=True)) == dict.fromkeys(IN_VAIN, ("UNAVAILABLE", 1))
