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


@pytest.mark.parametrize("rpc", rpcs(), ids=lambda rpc: rpc.path)
async def test_each_role_may_call_what_the_table_says_and_nothing_else(rpc: Rpc) -> None:
    wanted = PERMITTED[rpc.service][rpc.method]
    found = {role for role in Role if await admitted(rpc.path, Identity("t", "p", frozenset({role})))}
    assert found == (set(Role) if wanted == "public" else {role for word in wanted.split() for role in ABOVE[word]})
    assert await admitted(rpc.path, None) == (wanted == "public")
    assert await admitted(rpc.path, Identity("t", "p", frozenset())) == (wanted == "public")


def test_the_table_has_every_rpc_and_no_other() -> None:
    assert {f"{service}/{name}" for service, names in PERMITTED.items() for name in names} == {
        rpc.path for rpc in rpcs()
    }


@pytest.mark.parametrize("rpc", rpcs(), ids=lambda rpc: rpc.path)
async def test_a_narrowed_credential_is_let_in_by_its_scopes_alone(rpc: Rpc) -> None:
    permission = permissions.of_method(method_of(rpc.service, rpc.method))
    roles = permission.roles or frozenset({Role.OWNER})
    for scope in Scope:
        holder = Identity("t", "p", roles, scopes=frozenset({scope}))
        wanted = scope in permission.scopes or not permission.scopes
        assert await admitted(rpc.path, holder) == wanted
    if rpc.path not in NEEDS_NO_SCOPE and roles - {Role.SERVICE} and not permission.public:
        assert permission.scopes, "an RPC for people can be narrowed to"


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
    with pytest.raises(ValueError, match="the request of no RPC"):
        permissions.of_request(answer)


def test_what_declares_nothing_is_not_served() -> None:
    health = method_of("grpc.health.v1.Health", "Check")
    with pytest.raises(ValueError, match="declares no"):
        permissions.of_method(health)
