"""Credentials against the real access service: exchanged, forwarded, revoked, renewed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc

from services.access.__main__ import build as build_access
from services.access.config import AccessSettings
from services.chassis.context import Rights, Role, Scope, current
from services.chassis.errors import Failure
from services.chassis.revocations import Revocations
from services.chassis.runtime import Runtime
from services.chassis.server import Registration, Serving, running
from tests.contract.chassis.echo import LOOPBACK, UNARY, Act, Echo, nothing, refused, send, settings_in

PORTS: dict[str, Any] = {"listen": LOOPBACK, "admin_listen": LOOPBACK, "metrics_listen": LOOPBACK}


@dataclass(frozen=True)
class World:
    """Access and an echo that trusts it."""

    access: Serving
    echo: Serving
    admin_key: str

    @asynccontextmanager
    async def stub(self, credential: str) -> AsyncIterator[Any]:
        """Access's stub and the metadata for ``credential``."""
        async with grpc.aio.insecure_channel(self.access.listen) as channel:
            yield access_pb2_grpc.AccessServiceStub(channel), (("authorization", f"Bearer {credential}"),)


@asynccontextmanager
async def world(folder: Path, act: Act = nothing, **fields: Any) -> AsyncIterator[World]:
    @asynccontextmanager
    async def build(_: Runtime) -> AsyncIterator[list[Registration]]:
        yield Echo(act).registrations({})

    settings = AccessSettings(data_dir=folder, **PORTS)
    async with running(settings, name="access", build=build_access) as access:
        echo_settings = settings_in(folder, access_address=access.listen, **fields)
        async with running(echo_settings, name="echo", build=build) as echo:
            yield World(access, echo, (folder / "keys" / "admin.key").read_text().strip())


def bearer(credential: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {credential}"),)


async def test_a_key_and_its_assertion_open_the_same_door(tmp_path: Path) -> None:
    seen = []

    async def act(_: Any) -> None:
        seen.append(current())

    async with world(tmp_path, act) as here:
        await send(here.echo, UNARY, metadata=bearer(here.admin_key))
        async with here.stub(here.admin_key) as (stub, _metadata):
            request = access_pb2.ExchangeKeyRequest(api_key=here.admin_key)
            assertion = (await stub.ExchangeKey(request)).assertion.token
        await send(here.echo, UNARY, metadata=bearer(assertion))
    by_key, by_assertion = seen
    assert by_key.tenant_id == by_assertion.tenant_id == "default"
    assert by_key.principal_id == by_assertion.principal_id
    assert by_key.has(Role.ADMIN)
    assert by_key.assertion
    assert by_key.assertion != here.admin_key


@pytest.mark.parametrize("credential", ["tv_nobody_secretsecretsecret", "eyJhbGciOiJub25lIn0.e30.", "nonsense"])
async def test_what_access_did_not_issue_opens_nothing(tmp_path: Path, credential: str) -> None:
    async with world(tmp_path) as here:
        failure = await refused(here.echo, UNARY, metadata=bearer(credential))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


@pytest.mark.parametrize("end", ["RevokeKey", "RotateKey"])
async def test_a_key_that_was_ended_dies_and_so_do_its_assertions(tmp_path: Path, end: str) -> None:
    async with world(tmp_path, key_cache_seconds=0) as here:
        async with here.stub(here.admin_key) as (stub, metadata):
            request = access_pb2.CreateKeyRequest(display_name="k", roles=[access_pb2.ROLE_MEMBER])
            created = await stub.CreateKey(request, metadata=metadata)
            exchange = access_pb2.ExchangeKeyRequest(api_key=created.api_key)
            assertion = (await stub.ExchangeKey(exchange)).assertion.token
            for credential in (created.api_key, assertion):
                await send(here.echo, UNARY, metadata=bearer(credential))
            if end == "RevokeKey":
                await stub.RevokeKey(access_pb2.RevokeKeyRequest(key=created.key.key), metadata=metadata)
            else:
                rotation = access_pb2.RotateKeyRequest(key=created.key.key, overlap_seconds=0)
                await stub.RotateKey(rotation, metadata=metadata)
        assert (await refused(here.echo, UNARY, metadata=bearer(created.api_key))).reason == "CREDENTIAL_INVALID"
        # A minute later, as far as the list of revocations is concerned.
        authenticator: Any = here.echo.runtime.authenticator
        authenticator._revocations = Revocations(here.echo.runtime.access.revoked_principals)
        assert (await refused(here.echo, UNARY, metadata=bearer(assertion))).reason == "CREDENTIAL_INVALID"


async def test_an_assertion_is_still_checked_while_access_is_down(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.stub(here.admin_key) as (stub, _metadata):
            request = access_pb2.ExchangeKeyRequest(api_key=here.admin_key)
            assertion = (await stub.ExchangeKey(request)).assertion.token
        await send(here.echo, UNARY, metadata=bearer(assertion))
        await here.access.main.stop(0)
        authenticator: Any = here.echo.runtime.authenticator
        authenticator._revocations = Revocations(here.echo.runtime.access.revoked_principals)
        await send(here.echo, UNARY, metadata=bearer(assertion))


async def test_background_work_acts_for_a_tenant_and_as_the_service(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        runtime = here.echo.runtime
        stub: Any = access_pb2_grpc.AccessServiceStub(runtime.channel("access"))
        async with runtime.acting_for("default", on_behalf_of="somebody") as request:
            assert (request.tenant_id, current()) == ("default", request)
            me = await stub.WhoAmI(access_pb2.WhoAmIRequest())
            assert (me.tenant, list(me.roles)) == ("default", [access_pb2.ROLE_MEMBER, access_pb2.ROLE_DEVELOPER])
        async with runtime.as_service():
            me = await stub.WhoAmI(access_pb2.WhoAmIRequest())
            assert access_pb2.ROLE_SERVICE in me.roles
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.WhoAmI(access_pb2.WhoAmIRequest())
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_background_work_has_the_rights_of_whom_it_is_done_for_whatever_others_of_the_same_name_had(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        runtime = here.echo.runtime
        stub: Any = access_pb2_grpc.AccessServiceStub(runtime.channel("access"))
        member = Rights(frozenset({Role.MEMBER}), frozenset({Scope.INFERENCE}))
        owner = Rights(frozenset({Role.OWNER}))
        developer = Rights(frozenset({Role.DEVELOPER}))
        for stated, granted in ((owner, developer), (member, member), (Rights(frozenset()), Rights(frozenset()))):
            async with runtime.acting_for("default", on_behalf_of="somebody", rights=stated) as request:
                assert request.rights == granted
                claims = jwt.decode(request.assertion, options={"verify_signature": False})
                assert (claims["sub"], claims["roles"]) == ("somebody", sorted(granted.roles))
                assert claims.get("scopes", []) == sorted(granted.scopes)
                if granted is member:
                    me = await stub.WhoAmI(access_pb2.WhoAmIRequest())
                    assert list(me.roles) == [access_pb2.ROLE_MEMBER]


async def test_a_tenant_that_access_refuses_to_have_acted_for_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.stub(here.admin_key) as (stub, metadata):
            await stub.CreateTenant(access_pb2.CreateTenantRequest(tenant="acme"), metadata=metadata)
            await stub.DisableTenant(access_pb2.DisableTenantRequest(tenant="acme"), metadata=metadata)
        for tenant, reason in (("acme", "TENANT_DISABLED"), ("nobody", "TENANT_NOT_FOUND")):
            with pytest.raises(Failure) as failure:
                async with here.echo.runtime.acting_for(tenant):
                    raise AssertionError("acted for it")
            assert (failure.value.reason.name, failure.value.variables["name"]) == (reason, tenant)


async def test_access_that_is_away_is_a_failure_that_passes_whoever_is_to_be_acted_for(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.echo.runtime.acting_for("default", on_behalf_of="first"):
            await here.access.main.stop(0)
        with pytest.raises(Failure) as failure:
            async with here.echo.runtime.acting_for("default", on_behalf_of="second"):
                raise AssertionError("acted for it")
    assert (failure.value.reason.name, failure.value.variables["service"]) == ("PEER_UNAVAILABLE", "access")
