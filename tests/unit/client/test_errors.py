"""A failed call becomes one typed error, with everything that the server packed beside its status."""

from itertools import takewhile

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from trivium_client import (
    AuthenticationError,
    NotFoundError,
    OverloadedError,
    ServerError,
    TriviumError,
    UnavailableError,
)
from trivium_client.cli.exits import Exit, exit_of
from trivium_client.errors import from_rpc

from tests.stack import CHECKOUT


def failed(code: grpc.StatusCode, *details: Message, text: str = "It failed.") -> grpc.aio.AioRpcError:
    status = status_pb2.Status(code=code.value[0], message=text)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString())) if details else None
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers or grpc.aio.Metadata(), text)


def test_reason_variables_and_request_id_come_through() -> None:
    info = error_details_pb2.ErrorInfo(
        reason="MODEL_NOT_FOUND", metadata={"name": "bsae", "nearest": "base", "correlation_id": "c-1"}
    )
    error = from_rpc(failed(grpc.StatusCode.NOT_FOUND, info), "127.0.0.1:1")
    assert isinstance(error, NotFoundError)
    assert (error.reason, error.variables["nearest"], error.request_id) == ("MODEL_NOT_FOUND", "base", "c-1")


def test_violated_fields_and_the_retry_hint_come_through() -> None:
    info = error_details_pb2.ErrorInfo(reason="QUOTA")
    bad = error_details_pb2.BadRequest(
        field_violations=[error_details_pb2.BadRequest.FieldViolation(field="rows[3]", description="no completion")]
    )
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    error = from_rpc(failed(grpc.StatusCode.RESOURCE_EXHAUSTED, info, bad, retry), "127.0.0.1:1")
    assert isinstance(error, OverloadedError)
    assert error.retry_after_seconds == 1.5
    assert error.violations[0].field == "rows[3]"


def test_nobody_at_the_address_is_said_with_the_address() -> None:
    error = from_rpc(failed(grpc.StatusCode.UNAVAILABLE, text="failed to connect"), "127.0.0.1:9")
    assert isinstance(error, UnavailableError)
    assert "127.0.0.1:9" in error.message


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (NotFoundError, Exit.NOT_FOUND),
        (AuthenticationError, Exit.FORBIDDEN),
        (UnavailableError, Exit.UNAVAILABLE),
        (OverloadedError, Exit.OVERLOADED),
        (ServerError, Exit.FAILURE),
    ],
)
def test_each_kind_of_error_has_its_exit_code(kind: type[TriviumError], code: Exit) -> None:
    assert exit_of(kind("x")) is code


def test_the_exit_codes_of_the_readme_are_those_of_the_command() -> None:
    table = (
        (CHECKOUT / "clients" / "python" / "README.md").read_text().split("| exit code | meaning |\n| --- | --- |\n")[1]
    )
    # Other tables follow it.
    lines = takewhile(lambda line: line.startswith("|"), table.splitlines())
    rows = [line.strip("| ").split(" | ") for line in lines]
    assert rows == [[str(int(code)), code.about] for code in Exit]
