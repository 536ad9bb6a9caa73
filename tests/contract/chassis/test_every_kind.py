"""What the layers promise holds for all four kinds of RPC: nothing is unary only."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.chassis.context import current
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import MethodPolicy
from tests.contract.chassis.echo import (
    AUTHORISED,
    KINDS,
    Held,
    Kind,
    KnownKeys,
    finish,
    refusal,
    refused,
    send,
    served,
    start,
)
from tests.harness.timeouts import HANG_SECONDS

every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.shape for kind in KINDS])


@every_kind
async def test_tenant_comes_from_the_credential(tmp_path: Path, kind: Kind) -> None:
    seen = []

    async def act(_: Any) -> None:
        seen.append((current().tenant_id, current().method))

    async with served(tmp_path, act) as server:
        await send(server, kind, metadata=(("authorization", "Bearer key-of-globex"),))
    assert seen == [("globex", kind.path)]


@every_kind
async def test_a_call_without_credential_is_refused(tmp_path: Path, kind: Kind) -> None:
    async with served(tmp_path) as server:
        failure = await refused(server, kind, metadata=())
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING")


@every_kind
async def test_bytes_that_do_not_decode_are_an_invalid_argument(tmp_path: Path, kind: Kind) -> None:
    async with served(tmp_path) as server:
        failure = await refused(server, kind, b"\xff\xff\xff")
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BODY_NOT_DECODABLE")
    assert failure.metadata["type"].startswith("trivium.")


@every_kind
async def test_an_unknown_caller_learns_nothing_about_the_request(tmp_path: Path, kind: Kind) -> None:
    async with served(tmp_path) as server:
        for body in (b"\xff\xff\xff", kind.broken):
            failure = await refused(server, kind, body, metadata=(("authorization", "Bearer wrong"),))
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


@every_kind
async def test_a_role_is_checked_before_the_request_is_parsed(tmp_path: Path, kind: Kind) -> None:
    nobody = KnownKeys()
    nobody.roles = frozenset()
    async with served(tmp_path, authenticator=nobody) as server:
        failure = await refused(server, kind, b"\xff\xff\xff")
    assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")


@every_kind
async def test_a_broken_rule_names_its_field(tmp_path: Path, kind: Kind) -> None:
    async with served(tmp_path) as server:
        failure = await refused(server, kind, kind.broken)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    (violation,) = failure.details["BadRequest"].field_violations
    assert violation.description


@every_kind
async def test_what_breaks_inside_is_masked_and_logged_under_one_id(
    tmp_path: Path, kind: Kind, capfd: pytest.CaptureFixture[str]
) -> None:
    async def act(_: Any) -> None:
        raise ValueError("the secret recipe")

    async with served(tmp_path, act) as server:
        failure = await refused(server, kind)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "recipe" not in failure.message + repr(failure.trailers)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    (logged,) = [line for line in lines if line["event"] == "call_failed"]
    assert logged["exception"] == "ValueError"
    assert logged["correlation_id"] == failure.metadata["correlation_id"] == failure.trailers["x-correlation-id"]


@every_kind
async def test_a_failure_of_the_catalogue_reaches_the_client_typed(tmp_path: Path, kind: Kind) -> None:
    async def act(_: Any) -> None:
        raise Failure(Reason.MODEL_NOT_FOUND, name="rosy", nearest="rose")

    async with served(tmp_path, act) as server:
        failure = await refused(server, kind)
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert failure.metadata["nearest"] == "rose"
    assert failure.details["ErrorInfo"].domain == "trivium"
    assert failure.details["ResourceInfo"].resource_name == "rosy"


@every_kind
async def test_a_failure_inside_a_task_group_is_the_same_failure(tmp_path: Path, kind: Kind) -> None:
    async def fail() -> None:
        raise Failure(Reason.MODEL_NOT_FOUND, name="rosy", nearest="rose")

    async def act(_: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    async with served(tmp_path, act) as server:
        assert (await refused(server, kind)).reason == "MODEL_NOT_FOUND"


@every_kind
async def test_a_deadline_is_imposed_where_the_caller_gives_none(tmp_path: Path, kind: Kind) -> None:
    held = Held()
    policies = {kind.method: MethodPolicy(max_seconds=0.1)}
    async with served(tmp_path, held, policies=policies) as server:
        failure = await refused(server, kind)
        assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        # On a busy machine it is over before the work begins.
        assert held.ended.is_set() == held.began.is_set()


@every_kind
async def test_a_longer_deadline_is_cut_to_what_the_method_allows(tmp_path: Path, kind: Kind) -> None:
    held = Held()
    async with served(tmp_path, held, policies={kind.method: MethodPolicy(max_seconds=0.1)}) as server:
        assert (await refused(server, kind, timeout=60)).reason == "DEADLINE_EXCEEDED"


@every_kind
@pytest.mark.parametrize("how", ["deadline", "cancel"])
async def test_work_stops_when_its_caller_is_gone(tmp_path: Path, kind: Kind, how: str) -> None:
    held = Held()
    async with served(tmp_path, held) as server, grpc.aio.insecure_channel(server.listen) as channel:
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                call = start(channel, kind, kind.valid, timeout=0.3 if how == "deadline" else 60)
                ended = asyncio.create_task(finish(call, kind))
                began = asyncio.create_task(held.began.wait())
                await asyncio.wait({ended, began}, return_when=asyncio.FIRST_COMPLETED)
                began.cancel()
                if held.began.is_set():
                    break
                # Its time was over before its work began, which is another case.
                with pytest.raises(grpc.aio.AioRpcError):
                    await ended
        if how == "cancel":
            call.cancel()
        async with asyncio.timeout(HANG_SECONDS):
            await held.ended.wait()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await ended


@every_kind
async def test_a_full_server_sheds_with_a_retry_hint_and_recovers(tmp_path: Path, kind: Kind) -> None:
    held = Held()
    async with served(tmp_path, held, max_calls=1) as server, grpc.aio.insecure_channel(server.listen) as channel:
        first = asyncio.create_task(finish(start(channel, kind, kind.valid), kind))
        await held.began.wait()
        failure = await refused(server, kind)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
        assert failure.details["RetryInfo"].retry_delay.seconds == 1
        # Before it asks who the caller is: nobody answers for access where the server is full.
        assert (await refused(server, kind, metadata=())).reason == "OVERLOADED"
        held.go.set()
        await first
        await send(server, kind)
        assert server.layers.admission.in_flight == 0


@every_kind
async def test_one_tenant_cannot_take_all_places(tmp_path: Path, kind: Kind) -> None:
    held = Held()
    limits: dict[str, Any] = {"max_calls_per_tenant": 1, "max_streams_per_tenant": 1}
    async with served(tmp_path, held, **limits) as server, grpc.aio.insecure_channel(server.listen) as channel:
        first = asyncio.create_task(finish(start(channel, kind, kind.valid), kind))
        await held.began.wait()
        failure = await refused(server, kind)
        assert failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.details["QuotaFailure"].violations[0].subject == "tenants/acme"
        held.go.set()
        await send(server, kind, metadata=(("authorization", "Bearer key-of-globex"),))
        await first


@every_kind
async def test_draining_finishes_what_runs_and_refuses_what_is_new(tmp_path: Path, kind: Kind) -> None:
    held = Held()
    serving = served(tmp_path, held)
    server = await serving.__aenter__()
    async with grpc.aio.insecure_channel(server.listen) as channel:
        running_call = asyncio.create_task(finish(start(channel, kind, kind.valid), kind))
        await held.began.wait()
        leaving = asyncio.create_task(serving.__aexit__(None, None, None))
        async with asyncio.timeout(HANG_SECONDS):
            await server.runtime.draining.wait()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await finish(start(channel, kind, kind.valid, timeout=5), kind)
        assert refusal(error.value).reason == "DRAINING"
        assert not leaving.done()
        held.go.set()
        assert await running_call
        await leaving


@every_kind
async def test_the_callers_ids_are_kept_and_a_new_one_is_told(tmp_path: Path, kind: Kind) -> None:
    async with served(tmp_path) as server, grpc.aio.insecure_channel(server.listen) as channel:
        call = start(channel, kind, kind.valid)
        await finish(call, kind)
        assert len(dict(tuple(await call.trailing_metadata()))["x-correlation-id"]) == 32

    async def act(_: Any) -> None:
        raise Failure(Reason.MODEL_NOT_FOUND, name="a", nearest="b")

    async with served(tmp_path, act) as server:
        for given, kept in (("my-id-1", True), ("two words", False), ("x" * 65, False)):
            metadata = (*AUTHORISED, ("x-correlation-id", given))
            failure = await refused(server, kind, metadata=metadata)
            assert (failure.metadata["correlation_id"] == given) is kept


@every_kind
async def test_admission_comes_before_parsing(tmp_path: Path, kind: Kind) -> None:
    held = Held()
    async with served(tmp_path, held, max_calls=1) as server, grpc.aio.insecure_channel(server.listen) as channel:
        first = asyncio.create_task(finish(start(channel, kind, kind.valid), kind))
        await held.began.wait()
        assert (await refused(server, kind, b"\xff\xff\xff")).reason == "OVERLOADED"
        held.go.set()
        await first
