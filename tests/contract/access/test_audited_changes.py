"""Every RPC of access that changes state leaves its events in the audit log, once, under names that the contract lists."""

import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1 import policy_pb2, user_pb2, user_pb2_grpc

from services.chassis import permissions
from services.chassis.context import Role
from tests.contract.contracts import PROTOS, Rpc, rpcs
from tests.contract.descriptors import method_of
from tests.stack import Api, Stack


@dataclass(frozen=True)
class House:
    """A tenant with its owner, what a test makes in it, and its audit log."""

    stack: Stack
    tenant: str
    owner: str

    @property
    def api(self) -> Api:
        return self.stack.access_api(self.owner)

    @property
    def users(self) -> Api:
        return Api(user_pb2_grpc.UserServiceStub(self.stack.channel(self.stack.access.address)), self.owner)

    def key(self, **fields: Any) -> str:
        return str(self.api.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_MEMBER], **fields)).key.key)

    def project(self) -> str:
        self.api.CreateProject(pb.CreateProjectRequest(project="p"))
        return "p"

    def user(self, **changed: Any) -> str:
        user = str(self.users.CreateUser(user_pb2.CreateUserRequest()).user.user)
        self.users.UpdateUser(user_pb2.UpdateUserRequest(user=user, **changed))
        return user

    def holder(self) -> str:
        user = self.user()
        self.key(user=user)
        return user

    def log(self, tenant: str) -> list[pb.AuditEvent]:
        """A tenant's events, oldest first; none of one that is not there yet."""
        admin = self.stack.access_api(self.stack.key("admin"))
        try:
            listed = admin.ListAuditEvents(pb.ListAuditEventsRequest(tenant=tenant, page_size=1000))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return []
        return list(reversed(listed.events))

    def asking(self, rpc: Rpc) -> str:
        """The credential of the least who may call it."""
        may = permissions.of_method(method_of(rpc.service, rpc.method)).roles
        return self.owner if Role.OWNER in may else self.stack.key("admin")

    def ask(self, rpc: Rpc, request: Message) -> None:
        answer = GetMessageClass(method_of(rpc.service, rpc.method).output_type)
        call = self.stack.channel(self.stack.access.address).unary_unary(
            f"/{rpc.path}", request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        call(request, timeout=30, metadata=(("authorization", f"Bearer {self.asking(rpc)}"),))


@pytest.fixture
def house(stack: Stack) -> House:
    tenant = stack.tenant()
    return House(stack, tenant, stack.tenant_key(tenant, pb.ROLE_OWNER))


@dataclass(frozen=True)
class Change:
    """What an RPC is asked in a house, and the events that this is to leave, one of each."""

    rpc: str
    events: tuple[str, ...]
    request: Callable[[House], Message]


def of_access(method: str, events: str, request: Callable[[House], Message]) -> Change:
    return Change(f"trivium.access.v1.AccessService/{method}", tuple(events.split()), request)


def of_users(method: str, events: str, request: Callable[[House], Message]) -> Change:
    return Change(f"trivium.access.v1.UserService/{method}", tuple(events.split()), request)


POLICY, QUOTA = policy_pb2.Policy(endpoint="judge.example:7000"), pb.Quota(requests_per_minute=7)
CHANGES = [
    of_access("CreateTenant", "tenant.created", lambda _: pb.CreateTenantRequest(tenant=f"t-{uuid.uuid4().hex[:12]}")),
    of_access("DisableTenant", "tenant.disabled", lambda house: pb.DisableTenantRequest(tenant=house.tenant)),
    of_access("CreateKey", "key.created", lambda _: pb.CreateKeyRequest(roles=[pb.ROLE_MEMBER])),
    of_access("RevokeKey", "key.revoked", lambda house: pb.RevokeKeyRequest(key=house.key())),
    # Of two keys: the one that ends, and its heir.
    of_access("RotateKey", "key.rotated key.created", lambda house: pb.RotateKeyRequest(key=house.key())),
    of_access("CreateProject", "project.created", lambda _: pb.CreateProjectRequest(project="p")),
    of_access("DeleteProject", "project.deleted", lambda house: pb.DeleteProjectRequest(project=house.project())),
    of_access("UpdateQuota", "quota.updated", lambda house: pb.UpdateQuotaRequest(tenant=house.tenant, quota=QUOTA)),
    of_access(
        "UpdatePolicy", "policy.updated", lambda house: pb.UpdatePolicyRequest(tenant=house.tenant, policy=POLICY)
    ),
    of_users("CreateUser", "user.created", lambda _: user_pb2.CreateUserRequest()),
    of_users(
        "UpdateUser", "user.updated", lambda house: user_pb2.UpdateUserRequest(user=house.user(), display_name="Ana")
    ),
    of_users("UpdateUser", "user.disabled", lambda house: user_pb2.UpdateUserRequest(user=house.user(), disabled=True)),
    of_users(
        "UpdateUser",
        "user.enabled",
        lambda house: user_pb2.UpdateUserRequest(user=house.user(disabled=True), disabled=False),
    ),
    of_users(
        "UpdateUser",
        "user.updated user.disabled",
        lambda house: user_pb2.UpdateUserRequest(user=house.user(), display_name="Ana", disabled=True),
    ),
    of_users("DeleteUser", "user.deleted", lambda house: user_pb2.DeleteUserRequest(user=house.user())),
    # The keys of a user end too.
    of_users("DeleteUser", "key.revoked user.deleted", lambda house: user_pb2.DeleteUserRequest(user=house.holder())),
]
CHANGING = [
    rpc
    for rpc in rpcs()
    if rpc.service.startswith("trivium.access.v1.")
    and permissions.of_method(method_of(rpc.service, rpc.method)).changes_state
]


@pytest.mark.parametrize("rpc", CHANGING, ids=lambda rpc: rpc.path)
def test_a_change_that_is_asked_for_twice_is_in_the_audit_log_once(rpc: Rpc, house: House) -> None:
    changes = [change for change in CHANGES if change.rpc == rpc.path]
    assert changes, f"say in CHANGES what {rpc.method} is asked and which events that leaves"
    asking = house.stack.access_api(house.asking(rpc)).WhoAmI(pb.WhoAmIRequest()).principal
    for change in changes:
        request: Any = change.request(house)
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = str(uuid.uuid4())
        tenant = getattr(request, "tenant", "") or house.tenant
        before = house.log(tenant)
        house.ask(rpc, request)
        # What is gone or there already is refused the second time.
        with suppress(grpc.RpcError):
            house.ask(rpc, request)
        written = house.log(tenant)[len(before) :]
        assert [event.action for event in written] == list(change.events)
        assert {(event.principal, event.method) for event in written} == {(asking, f"/{rpc.path}")}


def test_the_contract_lists_the_events_that_changes_leave_and_no_others() -> None:
    contract = re.sub(r"\s*//\s*", " ", (PROTOS / "trivium/access/v1/access.proto").read_text())
    listed = re.search(r"What, noun then verb: ([a-z., ]+);", contract)
    assert listed
    assert sorted(listed[1].split(", ")) == sorted({event for change in CHANGES for event in change.events})


def test_no_change_is_of_an_rpc_that_changes_nothing_or_is_gone() -> None:
    assert {change.rpc for change in CHANGES} <= {rpc.path for rpc in CHANGING}
