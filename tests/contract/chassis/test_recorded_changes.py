"""A change that a service answers for is in the audit log at the real access, whoever made it; nothing else is."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from trivium.access.v1 import access_pb2, audit_pb2, audit_pb2_grpc
from trivium.generator.v1 import generator_pb2

from services.chassis.errors import Code, Failure, Reason
from services.chassis.status import CORRELATION_KEY
from tests.contract.chassis.echo import GENERATOR, UNARY, UP, Held, Kind, refused, send, start
from tests.contract.chassis.test_access import World, bearer, world
from tests.harness.timeouts import HANG_SECONDS
from tests.small_disk import small_disk

VERSION = "sha256:" + "a" * 64
PIN = Kind("unary_unary", f"/{GENERATOR}/PinAdapter", generator_pb2.PinAdapterRequest(version=VERSION), UNARY.broken)


async def events(here: World, tenant: str = "", *, at_least: int = 0) -> list[access_pb2.AuditEvent]:
    """What other services changed, oldest first, when there is as much as that."""
    request = access_pb2.ListAuditEventsRequest(tenant=tenant)
    async with here.stub(here.admin_key) as (stub, metadata), asyncio.timeout(HANG_SECONDS):
        while True:
            answer = await stub.ListAuditEvents(request, metadata=metadata)
            found = [event for event in reversed(answer.events) if event.event_id]
            if len(found) >= at_least:
                return found
            await asyncio.sleep(0.05)


async def whole(here: World, tenant: str = "") -> bool:
    async with here.stub(here.admin_key) as (stub, metadata):
        return bool((await stub.VerifyAudit(access_pb2.VerifyAuditRequest(tenant=tenant), metadata=metadata)).intact)


async def key_in(here: World, tenant: str, *roles: "access_pb2.Role.ValueType") -> Any:
    async with here.stub(here.admin_key) as (stub, metadata):
        await stub.CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant), metadata=metadata)
        return await stub.CreateKey(access_pb2.CreateKeyRequest(tenant=tenant, roles=roles), metadata=metadata)


async def test_a_change_is_in_its_tenants_log_with_who_what_and_by_which_call(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        made = await key_in(here, "acme", access_pb2.ROLE_DEVELOPER)
        metadata = (*bearer(made.api_key), (CORRELATION_KEY, "call-1"))
        await send(here.echo, UNARY, metadata=metadata)
        await send(here.echo, UP, metadata=metadata)
        (event,) = await events(here, "acme", at_least=1)
        assert (event.principal, event.actor, event.outcome) == (made.key.key, "", "OK")
        assert (event.action, event.resource, event.method) == ("blob.uploaded", "blobs", UP.path)
        assert event.request_id == "call-1"
        assert await events(here) == []
        assert await whole(here, "acme")
        # Names alone: nothing of what was sent.
        assert UP.valid.SerializeToString() not in event.SerializeToString()


async def test_what_a_service_does_is_in_the_log_of_whom_it_acts_for_or_else_of_the_services(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        made = await key_in(here, "acme", access_pb2.ROLE_DEVELOPER)
        async with here.echo.runtime.acting_for("acme", on_behalf_of=made.key.key) as request:
            await send(here.echo, UP, metadata=bearer(request.assertion))
        (event,) = await events(here, "acme", at_least=1)
        credential = (tmp_path / "keys" / "service.key").read_text().strip()
        service = credential.removeprefix("tv_").partition("_")[0]
        assert (event.principal, event.actor) == (made.key.key, service)
        assert await events(here, "_system") == []
        # Nobody serves it here: it breaks off.
        assert (await refused(here.echo, PIN, metadata=bearer(credential))).code is grpc.StatusCode.INTERNAL
        (event,) = await events(here, "_system", at_least=1)
        assert (event.principal, event.action, event.resource) == (service, "adapter.pinned", f"versions/{VERSION}")
        assert await events(here, "default") == []
        assert await whole(here, "_system")


async def test_what_is_refused_leaves_no_event_and_what_broke_off_leaves_one_that_says_so(tmp_path: Path) -> None:
    answers: list[Exception] = [Failure(Reason.BLOB_NOT_FOUND, name="x"), ZeroDivisionError()]
    held = Held()

    async def act(request: Any) -> None:
        if answers:
            raise answers.pop(0)
        await held(request)

    async with world(tmp_path, act) as here:
        made = await key_in(here, "acme", access_pb2.ROLE_DEVELOPER)
        viewer = await key_in(here, "beta", access_pb2.ROLE_VIEWER)
        metadata = bearer(made.api_key)
        assert (await refused(here.echo, UP, metadata=bearer(viewer.api_key))).reason == "ROLE_MISSING"
        assert (await refused(here.echo, UP, UP.broken, metadata=metadata)).code is grpc.StatusCode.INVALID_ARGUMENT
        assert (await refused(here.echo, UP, metadata=metadata)).reason == "BLOB_NOT_FOUND"
        assert (await refused(here.echo, UP, metadata=metadata)).code is grpc.StatusCode.INTERNAL
        async with grpc.aio.insecure_channel(here.echo.listen) as channel:
            call = start(channel, UP, UP.valid, metadata=metadata)
            await held.began.wait()
            call.cancel()
            await held.ended.wait()
        found = await events(here, "acme", at_least=2)
        assert [event.outcome for event in found] == [Code.INTERNAL.name, Code.CANCELLED.name]
        assert await events(here, "beta") == []


async def test_without_room_for_its_event_a_change_is_refused_before_it_is_made_and_reads_go_on(
    tmp_path: Path,
) -> None:
    made = []

    async def act(request: Any) -> None:
        made.append(request)

    with small_disk(tmp_path / "state" / "audit", "512k"):
        async with world(tmp_path, act) as here:
            failure = await refused(here.echo, UP, metadata=bearer(here.admin_key))
            assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
            assert not made
            await send(here.echo, UNARY, metadata=bearer(here.admin_key))
            assert len(made) == 1


async def test_a_service_tells_events_and_nobody_else_does(tmp_path: Path) -> None:
    async with world(tmp_path) as here, grpc.aio.insecure_channel(here.access.listen) as channel:
        stub: Any = audit_pb2_grpc.AuditServiceStub(channel)
        event = audit_pb2.Change(
            event_id="e", tenant="default", principal="p", action="a.b", method="/m", outcome="OK", resource="r"
        )
        event.time.GetCurrentTime()
        request = audit_pb2.RecordEventsRequest(events=[event])
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.RecordEvents(request, metadata=bearer(here.admin_key))
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
        service = (tmp_path / "keys" / "service.key").read_text().strip()
        assert list((await stub.RecordEvents(request, metadata=bearer(service))).refusals) == [""]
