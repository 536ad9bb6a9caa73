"""Projects group keys; keys are narrowed, rotated, and tell when they were used."""

import time
import uuid
from typing import Any

import jwt
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.access.v1 import access_pb2 as pb
from trivium.common.v1 import permission_pb2
from trivium.registry.v1 import registry_pb2

from tests.stack import Api, Stack, pages, refused


@pytest.fixture
def tenant(stack: Stack) -> str:
    return stack.tenant()


@pytest.fixture
def owner(stack: Stack, tenant: str) -> Api:
    return stack.access_api(stack.tenant_key(tenant))


def projects(api: Api) -> list[str]:
    def page(token: str) -> Any:
        return api.ListProjects(pb.ListProjectsRequest(page_size=1, page_token=token))

    return [item.project for item in pages(page, "projects")]


def test_a_project_is_made_once_listed_and_deleted_when_no_key_of_it_works(stack: Stack, owner: Api):
    request_id = str(uuid.uuid4())
    made = owner.CreateProject(pb.CreateProjectRequest(project="b", display_name="B", request_id=request_id))
    assert owner.CreateProject(pb.CreateProjectRequest(project="b", display_name="B", request_id=request_id)) == made
    owner.CreateProject(pb.CreateProjectRequest(project="a"))
    with refused("PROJECT_EXISTS"):
        owner.CreateProject(pb.CreateProjectRequest(project="a"))
    assert projects(owner) == ["a", "b"]
    key = owner.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_MEMBER], project="b"))
    me = stack.access_api(key.api_key).WhoAmI(pb.WhoAmIRequest())
    assert (key.key.project, me.project) == ("b", "b")
    with refused("PROJECT_IN_USE") as failures:
        owner.DeleteProject(pb.DeleteProjectRequest(project="b"))
    assert failures[0].variables["keys"] == "1"
    owner.RevokeKey(pb.RevokeKeyRequest(key=key.key.key))
    owner.DeleteProject(pb.DeleteProjectRequest(project="b"))
    assert projects(owner) == ["a"]
    actions = [event.action for event in owner.ListAuditEvents(pb.ListAuditEventsRequest()).events]
    assert actions.count("project.created") == 2
    assert actions.count("project.deleted") == 1


def test_another_tenants_project_and_a_missing_one_look_the_same(stack: Stack, owner: Api):
    owner.CreateProject(pb.CreateProjectRequest(project="theirs"))
    other = stack.access_api(stack.tenant_key(stack.tenant()))
    told = set()
    for name in ("theirs", "nowhere"):
        for call, request in (
            (other.DeleteProject, pb.DeleteProjectRequest(project=name)),
            (other.CreateKey, pb.CreateKeyRequest(roles=[pb.ROLE_MEMBER], project=name)),
        ):
            with refused("PROJECT_NOT_FOUND") as failures:
                call(request)
            told.add(failures[0].message.replace(name, "NAME"))
    assert len(told) == 1
    assert projects(other) == []


def test_an_assertion_carries_the_project_and_the_scopes_and_ends_with_its_key(stack: Stack, owner: Api):
    owner.CreateProject(pb.CreateProjectRequest(project="p"))
    ends = int(time.time()) + 100
    wanted = pb.CreateKeyRequest(
        roles=[pb.ROLE_MEMBER],
        project="p",
        scopes=[permission_pb2.SCOPE_INFERENCE, permission_pb2.SCOPE_USAGE_READ],
        expire_time=Timestamp(seconds=ends),
    )
    key = owner.CreateKey(wanted)
    token = stack.access_api().ExchangeKey(pb.ExchangeKeyRequest(api_key=key.api_key)).assertion.token
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["prj"], claims["scopes"], claims["exp"]) == ("p", ["inference", "usage.read"], ends)
    acting = stack.access_api(stack.key("service"))
    asked = pb.IssueAssertionRequest(tenant=key.key.tenant, on_behalf_of=key.key.key)
    assert jwt.decode(acting.IssueAssertion(asked).assertion.token, options={"verify_signature": False})["prj"] == "p"


def test_a_narrowed_key_is_refused_by_every_service_and_makes_none_that_may_more(stack: Stack, owner: Api):
    scopes = [permission_pb2.SCOPE_ACCOUNT_WRITE]
    key = owner.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_OWNER], scopes=scopes)).api_key
    narrow = stack.access_api(key)
    with refused("SCOPE_MISSING"):
        narrow.ListUsage(pb.ListUsageRequest())
    with refused("SCOPE_MISSING"):
        stack.registry_api(key).ListModels(registry_pb2.ListModelsRequest())
    assert narrow.ListKeys(pb.ListKeysRequest()).keys
    with refused("KEY_SCOPES_EXCEEDED"):
        narrow.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_VIEWER]))
    with refused("KEY_SCOPES_EXCEEDED"):
        narrow.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_VIEWER], scopes=[permission_pb2.SCOPE_INFERENCE]))
    made = narrow.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_VIEWER], scopes=scopes))
    assert list(made.key.scopes) == scopes
    wide = owner.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_VIEWER])).key.key
    with refused("KEY_SCOPES_EXCEEDED"):
        narrow.RotateKey(pb.RotateKeyRequest(key=wide))


def test_a_rotated_key_works_beside_its_heir_until_the_overlap_is_over(stack: Stack, owner: Api):
    old = owner.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_MEMBER], display_name="desk"))
    request_id = str(uuid.uuid4())
    before = time.time()
    rotated = owner.RotateKey(pb.RotateKeyRequest(key=old.key.key, request_id=request_id))
    again = owner.RotateKey(pb.RotateKeyRequest(key=old.key.key, request_id=request_id))
    assert (again.key, again.api_key, again.replaced) == (rotated.key, "", rotated.replaced)
    assert (rotated.key.replaces, rotated.key.display_name) == (old.key.key, "desk")
    assert list(rotated.key.roles) == [pb.ROLE_MEMBER]
    assert rotated.replaced.expire_time.seconds == pytest.approx(before + 86_400, abs=60)
    for text in (old.api_key, rotated.api_key):
        assert stack.access_api(text).WhoAmI(pb.WhoAmIRequest()).tenant == old.key.tenant
    assertion = stack.access_api().ExchangeKey(pb.ExchangeKeyRequest(api_key=rotated.api_key)).assertion.token
    at_once = owner.RotateKey(pb.RotateKeyRequest(key=rotated.key.key, overlap_seconds=0))
    for credential in (rotated.api_key, assertion):
        with refused("CREDENTIAL_INVALID"):
            stack.access_api(credential).WhoAmI(pb.WhoAmIRequest())
    revoked = stack.access_api().GetSigningKeys(pb.GetSigningKeysRequest()).revoked_principals
    assert [key for key in (old.key.key, rotated.key.key, at_once.key.key) if key in revoked] == [rotated.key.key]
    assert stack.access_api(at_once.api_key).WhoAmI(pb.WhoAmIRequest()).principal == at_once.key.key


def test_what_may_not_be_rotated_looks_like_what_is_not_there(stack: Stack, owner: Api, tenant: str):
    theirs = stack.tenant_key(stack.tenant()).split("_")[1]
    revoked = owner.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_MEMBER])).key.key
    owner.RevokeKey(pb.RevokeKeyRequest(key=revoked))
    for key in (theirs, revoked, "0000000000000000"):
        with refused("KEY_NOT_FOUND"):
            owner.RotateKey(pb.RotateKeyRequest(key=key))
    admins = stack.tenant_key(tenant, pb.ROLE_ADMIN).split("_")[1]
    with refused("KEY_ROLES_EXCEEDED"):
        owner.RotateKey(pb.RotateKeyRequest(key=admins))


def test_a_key_tells_when_it_was_last_used(stack: Stack, owner: Api):
    key = owner.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_MEMBER]))

    def shown() -> Any:
        return next(item for item in owner.ListKeys(pb.ListKeysRequest()).keys if item.key == key.key.key)

    assert not shown().HasField("last_used_time")
    before = time.time()
    stack.access_api(key.api_key).WhoAmI(pb.WhoAmIRequest())
    assert shown().last_used_time.ToNanoseconds() / 1e9 >= before - 1
