"""The channels to the servers of content policies: clear text on this machine, certificates or nothing elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from trivium.policy.v1 import policy_pb2 as pb
from trivium.policy.v1 import policy_pb2_grpc

from gateway.config import GatewaySettings
from gateway.peers.judges import RemoteJudges
from gateway.policy.nouns import Asked, ContentPolicy, Part, Refuse, UnjudgedError
from tests.contract.chassis.test_tls import Authority

PART = Part(Asked("ada", "key1", "r1", "base"), "text")


class Refusing(policy_pb2_grpc.PolicyServiceServicer):
    """Refuses everything at length."""

    async def CheckAnswer(self, request: pb.CheckAnswerRequest, context: object) -> pb.CheckAnswerResponse:
        return pb.CheckAnswerResponse(refuse=pb.Refuse(reason="x" * 5000))


@asynccontextmanager
async def serving(credentials: grpc.ServerCredentials | None) -> AsyncIterator[int]:
    """The port of such a server."""
    server = grpc.aio.server()
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(Refusing(), server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    yield port
    await server.stop(None)


def mutual(authority: Authority, name: str) -> grpc.ServerCredentials:
    files = authority.files(name)
    pair = (files["tls_key_file"].read_bytes(), files["tls_cert_file"].read_bytes())
    return grpc.ssl_server_credentials([pair], files["tls_ca_file"].read_bytes(), require_client_auth=True)


async def verdict_at(address, **settings):
    judges = RemoteJudges(GatewaySettings(**settings))
    running = asyncio.create_task(judges.run())
    # It closes its channels when it is cancelled, once it has begun.
    await asyncio.sleep(0)
    try:
        return await judges.part(ContentPolicy(address, 20.0), PART)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_on_this_machine_a_judge_is_asked_in_clear_text_also_by_a_gateway_with_certificates(tmp_path):
    files = Authority.new(tmp_path / "ca").files("gateway")
    async with serving(None) as port:
        for settings in ({}, files):
            verdict = await verdict_at(f"127.0.0.1:{port}", **settings)
            # What is told to callers is bounded, whatever a server says.
            assert verdict == Refuse("x" * 500)


async def test_a_judge_elsewhere_is_not_asked_without_certificates():
    with pytest.raises(UnjudgedError, match="certificates"):
        await verdict_at("judge.example:7000")


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_judge_elsewhere_shows_a_certificate_of_the_deployment_for_its_own_name(tmp_path, trusted, monkeypatch):
    ours = Authority.new(tmp_path / "ours")
    theirs = ours if trusted else Authority.new(tmp_path / "theirs")
    # No address of this machine is elsewhere, so that this one is called so.
    monkeypatch.setattr("services.chassis.channels.is_loopback", lambda _: False)
    async with serving(mutual(theirs, "localhost")) as port:
        # The suite's own name for its peers is not the judge's.
        settings = {**ours.files("gateway"), "tls_peer_name": "peers.of.the.suite"}
        if trusted:
            assert await verdict_at(f"localhost:{port}", **settings) == Refuse("x" * 500)
        else:
            with pytest.raises(UnjudgedError, match="reached"):
                await verdict_at(f"localhost:{port}", **settings)
