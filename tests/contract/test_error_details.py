"""Tools that know Trivium by its descriptors alone show the details of an error, not their bytes."""

import asyncio
import importlib.resources
import json
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis.catalogue import Reason
from services.chassis.errors import Failure
from services.chassis.status import to_status
from services.ops import gotools
from tests.contract.chassis.echo import AUTHORISED, UNARY, served

# Neither a connection nor an answer takes this long on a machine that does other things as well.
LIMIT_SECONDS = 60
LIMITS = ("-connect-timeout", str(LIMIT_SECONDS), "-max-time", str(LIMIT_SECONDS))
DESCRIPTORS = importlib.resources.files("trivium") / "descriptors.binpb"


def sent() -> set[str]:
    """The full name of every kind of detail that some failure of the catalogue carries."""
    failures = [Failure(reason, field="texts", retry_after_seconds=1) for reason in Reason]
    statuses = [to_status(failure, correlation_id="c", subject="acme") for failure in failures]
    return {detail.TypeName() for status in statuses for detail in status.details}


def test_the_shipped_descriptors_know_every_detail_that_is_sent() -> None:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    assert {"google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"} <= sent()
    for name in sent():
        assert pool.FindMessageTypeByName(name).fields, name


async def test_reflection_knows_every_detail_that_is_sent(tmp_path: Path) -> None:
    asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in sorted(sent())]
    async with served(tmp_path) as server, grpc.aio.insecure_channel(server.admin_listen) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = stub.ServerReflectionInfo(iter(asked), timeout=LIMIT_SECONDS)
        assert [answer.WhichOneof("message_response") async for answer in answers] == [
            "file_descriptor_response" for _ in asked
        ]


@pytest.fixture(scope="module")
def grpcurl() -> Path:
    """The program, which `make test` has built before: else this is what takes minutes, and not the test."""
    return gotools.program("grpcurl")


async def test_grpcurl_shows_what_is_wrong_with_a_request(tmp_path: Path, grpcurl: Path) -> None:
    async with served(tmp_path) as server:
        ran = await asyncio.create_subprocess_exec(
            grpcurl, "-plaintext", "-format-error", *LIMITS, "-protoset", str(DESCRIPTORS),
            "-H", ": ".join(AUTHORISED[0]), "-d", '{"texts": ["a"], "dimensions": -1}',
            server.listen, UNARY.path.removeprefix("/"),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, error = await ran.communicate()
    details = {detail.pop("@type").rpartition(".")[2]: detail for detail in json.loads(error)["details"]}
    assert details["ErrorInfo"]["reason"] == "REQUEST_INVALID"
    assert [violation["field"] for violation in details["BadRequest"]["fieldViolations"]] == ["dimensions"]
