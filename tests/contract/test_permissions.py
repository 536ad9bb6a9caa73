"""Every RPC of every service says who may call it, and the layer lets in those and nobody else."""

from dataclasses import dataclass
from typing import Any

import pytest

from services.chassis import permissions
from services.chassis.context import Identity, Role, Scope
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.auth import AuthLayer
from services.chassis.interceptors.call import Call, Method, MethodPolicy
from tests.contract.contracts import Rpc, rpcs
from tests.contract.descriptors import method_of
from tests.contract.permitted import ABOVE, PERMITTED

_REFUSALS = {Reason.ROLE_MISSING, Reason.SCOPE_MISSING, Reason.CREDENTIAL_MISSING}
NEEDS_NO_SCOPE = {"trivium.access.v1.AccessService/WhoAmI"}


@dataclass
class OneWhoHas:
    """Whoever calls has this identity."""

    identity: Identity

    async def authenticate(self, _: str) -> Identity:
        """Always the same."""
        return self.identity


async def admitted(path: str, identity: Identity | None) -> bool:
    """Whether the layer in front of the RPC lets this caller through."""
    service, _, name = path.partition("/")
    permission = permissions.of_method(method_of(service, name))
    unused: Any = None
    method = Method(
        f"/{path}",
        service,
        name,
        False,
        False,
        False,
        "",
        unused,
        unused,
        unused,
        MethodPolicy(),
        permission=permission,
    )
    call = Call(method, b"", unused)
    call.metadata = {} if identity is None else {"authorization": "Bearer x"}
    passed: list[Call] = []

    async def proceed(call: Call) -> None:
        passed.append(call)

    try:
        await AuthLayer(OneWhoHas(identity or Identity("", "", frozenset())))(proceed, call)
    except Failure as failure:
        if failure.reason not in _REFUSALS:
            raise
        return False
    return bool(passed)


# Callers without a credential, and callers whose credential has no role.
NOBODY, NO_ROLE = "nobody", "no role"


async def admitted_callers(rpc: Rpc) -> set[str]:
    """The permitted methods, by role."""
    callers = {role.name: Identity("t", "p", frozenset({role})) for role in Role}
    asked = {**callers, NOBODY: None, NO_ROLE: Identity("t", "p", frozenset())}
    return {name for name, identity in asked.items() if await admitted(rpc.path, identity)}


def permitted_callers(rpc: Rpc) -> set[str]:
    """The methods that the table permits, by role."""
    word = PERMITTED[rpc.service][rpc.method]
    if word == "public":
        return {*(role.name for role in Role), NOBODY, NO_ROLE}
    return {role.name for least in word.split() for role in ABOVE[least]}


async def test_each_role_may_call_what_the_table_says_and_nothing_else() -> None:
    wrong = {}
    for rpc in rpcs():
        found, wanted = await admitted_callers(rpc), permitted_callers(rpc)
        if found != wanted:
            wrong[rpc.path] = {"admitted against the table": found - wanted, "refused against it": wanted - found}
    assert wrong == {}


def test_the_table_has_every_rpc_and_no_other() -> None:
    assert {f"{service}/{name}" for service, names in PERMITTED.items() for name in names} == {
        rpc.path for rpc in rpcs()
    }


async def test_a_narrowed_credential_is_let_in_by_its_scopes_alone() -> None:
    wrong, open_to_any_scope = {}, set()
    for rpc in rpcs():
        permission = permissions.of_method(method_of(rpc.service, rpc.method))
        roles = permission.roles or frozenset({Role.OWNER})
        wanted = permission.scopes or set(Scope)
        holders = {scope: Identity("t", "p", roles, scopes=frozenset({scope})) for scope in Scope}
        found = {scope for scope, holder in holders.items() if await admitted(rpc.path, holder)}
        if found != wanted:
            wrong[rpc.path] = {"admitted": found, "declared": wanted}
        if roles - {Role.SERVICE} and not permission.public and not permission.scopes:
            open_to_any_scope.add(rpc.path)
    assert wrong == {}
    assert open_to_any_scope == NEEDS_NO_SCOPE, "an RPC for people can be narrowed to"


def test_who_may_write_may_read_and_not_the_reverse() -> None:
    listed = permissions.of_method(method_of("trivium.access.v1.AccessService", "ListKeys"))
    made = permissions.of_method(method_of("trivium.access.v1.AccessService", "CreateKey"))
    assert listed.scopes == {Scope.ACCOUNT_READ, Scope.ACCOUNT_WRITE}
    assert made.scopes == {Scope.ACCOUNT_WRITE}


def test_a_request_says_which_rpc_it_is_for() -> None:
    for rpc in rpcs():
        method = method_of(rpc.service, rpc.method)
        assert permissions.of_request(method.input_type) is permissions.of_method(method)


def test_what_is_no_request_is_for_nobody() -> None:
    answer = method_of("trivium.gateway.v1.GatewayService", "Ask").output_type
    with pytest.raises(ValueError, match=answer.full_name):
        permissions.of_request(answer)


def test_what_declares_nothing_is_not_served() -> None:
    health = method_of("grpc.health.v1.Health", "Check")
    with pytest.raises(ValueError, match=r"grpc\.health\.v1\.Health"):
        permissions.of_method(health)
