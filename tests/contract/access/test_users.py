"""Users: made, changed, stopped and deleted by the owner of their tenant, with what they hold."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from trivium.access.v1 import access_pb2, user_pb2, user_pb2_grpc
from trivium.common.v1 import permission_pb2
from trivium_client.cli import app
from typer.testing import CliRunner

from tests.stack import Api, Stack, pages, refused
from tests.token_issuer import TokenIssuer


@dataclass(frozen=True)
class House:
    """A tenant and its owner, at access and at its users."""

    stack: Stack
    issuer: TokenIssuer
    tenant: str
    key: str

    @property
    def access(self) -> Api:
        return self.stack.access_api(self.key)

    @property
    def users(self) -> Api:
        return users_api(self.stack, self.key)

    def user(self, **fields: Any) -> user_pb2.User:
        made: user_pb2.User = self.users.CreateUser(user_pb2.CreateUserRequest(**fields)).user
        return made

    def ana(self, **fields: Any) -> user_pb2.User:
        return self.user(issuer=self.issuer.url, subject="ana", **fields)

    def token(self, **claims: Any) -> str:
        return self.issuer.token(tenant=self.tenant, **claims)

    def me(self, credential: str) -> access_pb2.WhoAmIResponse:
        answer: access_pb2.WhoAmIResponse = self.stack.access_api(credential).WhoAmI(access_pb2.WhoAmIRequest())
        return answer

    def held(self, user: str, **fields: Any) -> access_pb2.CreateKeyResponse:
        request = access_pb2.CreateKeyRequest(user=user, roles=[access_pb2.ROLE_VIEWER], **fields)
        made: access_pb2.CreateKeyResponse = self.access.CreateKey(request)
        return made

    def project(self, project: str) -> str:
        self.access.CreateProject(access_pb2.CreateProjectRequest(project=project))
        return project

    def revoked(self) -> list[str]:
        return list(self.access.GetSigningKeys(access_pb2.GetSigningKeysRequest()).revoked_principals)


def users_api(stack: Stack, credential: str) -> Api:
    return Api(user_pb2_grpc.UserServiceStub(stack.channel(stack.access.address)), credential)


@pytest.fixture
def house(stack: Stack, issuer: TokenIssuer) -> House:
    tenant = stack.tenant()
    return House(stack, issuer, tenant, stack.tenant_key(tenant, access_pb2.ROLE_OWNER))


def test_whom_an_owner_made_a_user_signs_in_as_that_user_with_the_roles_given_here(house: House):
    ana = house.ana(display_name="Ana", roles=[access_pb2.ROLE_DEVELOPER])
    assert (ana.tenant, ana.display_name, ana.disabled) == (house.tenant, "Ana", False)
    assert house.users.GetUser(user_pb2.GetUserRequest(user=ana.user)).user == ana
    seen = house.me(house.token(groups=["bosses"]))
    assert (seen.principal, list(seen.roles)) == (ana.user, [access_pb2.ROLE_DEVELOPER])
    # Without roles of one's own those of the issuer count.
    house.users.UpdateUser(user_pb2.UpdateUserRequest(user=ana.user, roles=user_pb2.UserRoles()))
    assert list(house.me(house.token(groups=["bosses"])).roles) == [access_pb2.ROLE_OWNER]


def test_a_disabled_user_is_refused_with_every_credential_and_comes_back_when_enabled(house: House):
    ana = house.ana()
    token = house.token()
    exchange = access_pb2.ExchangeTokenRequest(token=token)
    assertion = house.stack.access_api().ExchangeToken(exchange).assertion.token
    made = house.held(ana.user)
    credentials = (token, assertion, made.api_key)
    for credential in credentials:
        house.me(credential)
    assert house.users.UpdateUser(user_pb2.UpdateUserRequest(user=ana.user, disabled=True)).user.disabled
    for credential in credentials:
        with refused("CREDENTIAL_INVALID"):
            house.me(credential)
    assert {ana.user, made.key.key} <= set(house.revoked())
    with refused("USER_NOT_FOUND"):
        house.held(ana.user)
    house.users.UpdateUser(user_pb2.UpdateUserRequest(user=ana.user, disabled=False))
    for credential in credentials:
        house.me(credential)


def test_a_deleted_user_takes_the_keys_along_and_a_person_who_comes_again_gets_none_of_them(house: House):
    ana = house.ana(display_name="Ana", roles=[access_pb2.ROLE_DEVELOPER])
    made = house.held(ana.user)
    house.users.DeleteUser(user_pb2.DeleteUserRequest(user=ana.user))
    assert {ana.user, made.key.key} <= set(house.revoked())
    for call, request in (
        (house.users.GetUser, user_pb2.GetUserRequest(user=ana.user)),
        (house.users.UpdateUser, user_pb2.UpdateUserRequest(user=ana.user, disabled=False)),
        (house.users.DeleteUser, user_pb2.DeleteUserRequest(user=ana.user)),
    ):
        with refused("USER_NOT_FOUND"):
            call(request)
    assert not house.users.ListUsers(user_pb2.ListUsersRequest()).users
    # The issuer may make users: whom it names is one again, with what the issuer says.
    assert list(house.me(house.token(name="Ana again")).roles) == [access_pb2.ROLE_VIEWER]
    assert house.users.GetUser(user_pb2.GetUserRequest(user=ana.user)).user.display_name == "Ana again"
    with refused("CREDENTIAL_INVALID"):
        house.me(made.api_key)


def test_a_user_is_made_once(house: House):
    request_id = str(uuid.uuid4())
    first = house.ana(request_id=request_id)
    assert house.ana(request_id=request_id) == first
    with refused("USER_EXISTS"):
        house.ana()
    # Who holds keys alone is whoever the owner says.
    assert house.user().user != house.user().user
    for half in ({"issuer": house.issuer.url}, {"subject": "ana"}):
        with refused("REQUEST_INVALID"):
            house.user(**half)


def test_nobody_gives_a_user_more_than_he_has(house: House):
    ana = house.ana()
    for role in (access_pb2.ROLE_ADMIN, access_pb2.ROLE_SERVICE):
        with refused("USER_ROLES_EXCEEDED"):
            house.user(roles=[role])
        with refused("USER_ROLES_EXCEEDED"):
            change = user_pb2.UserRoles(roles=[role])
            house.users.UpdateUser(user_pb2.UpdateUserRequest(user=ana.user, roles=change))
    narrow = access_pb2.CreateKeyRequest(roles=[access_pb2.ROLE_OWNER], scopes=[permission_pb2.SCOPE_ACCOUNT_WRITE])
    narrowed = users_api(house.stack, house.access.CreateKey(narrow).api_key)
    with refused("USER_ROLES_EXCEEDED"):
        narrowed.CreateUser(user_pb2.CreateUserRequest(roles=[access_pb2.ROLE_VIEWER]))
    developer = users_api(house.stack, house.stack.tenant_key(house.tenant, access_pb2.ROLE_DEVELOPER))
    with refused("ROLE_MISSING"):
        developer.ListUsers(user_pb2.ListUsersRequest())


def test_an_owner_changes_and_ends_nobody_who_may_do_more_than_he_may_be_it_by_a_key(house: House, stack: Stack):
    admin, admins = stack.access_api(stack.key("admin")), users_api(stack, stack.key("admin"))
    wanted = user_pb2.CreateUserRequest(tenant=house.tenant, roles=[access_pb2.ROLE_ADMIN])
    boss, holder = admins.CreateUser(wanted).user, house.user()
    made = access_pb2.CreateKeyRequest(tenant=house.tenant, user=holder.user, roles=[access_pb2.ROLE_SERVICE])
    held = admin.CreateKey(made)
    for user in (boss, holder):
        for change in (
            {"disabled": True},
            {"roles": user_pb2.UserRoles()},
            {"roles": user_pb2.UserRoles(roles=[access_pb2.ROLE_VIEWER])},
            {"projects": user_pb2.UserProjects()},
            {"display_name": "Nobody"},
        ):
            with refused("USER_ROLES_EXCEEDED"):
                house.users.UpdateUser(user_pb2.UpdateUserRequest(user=user.user, **change))
        with refused("USER_ROLES_EXCEEDED"):
            house.users.DeleteUser(user_pb2.DeleteUserRequest(user=user.user))
        assert house.users.GetUser(user_pb2.GetUserRequest(user=user.user)).user == user
    assert house.me(held.api_key).principal == held.key.key
    # Whom an admin stopped no owner brings back.
    admins.UpdateUser(user_pb2.UpdateUserRequest(user=boss.user, disabled=True))
    with refused("USER_ROLES_EXCEEDED"):
        house.users.UpdateUser(user_pb2.UpdateUserRequest(user=boss.user, disabled=False))
    # Who holds nothing of the kind that works is the owner's again.
    admin.RevokeKey(access_pb2.RevokeKeyRequest(key=held.key.key))
    made.expire_time.FromSeconds(1)
    admin.CreateKey(made)
    house.users.DeleteUser(user_pb2.DeleteUserRequest(user=holder.user))


def test_another_tenants_user_and_a_missing_one_look_the_same(house: House, stack: Stack):
    ana = house.ana()
    stranger = users_api(stack, stack.tenant_key(stack.tenant(), access_pb2.ROLE_OWNER))
    answers = set()
    for user in (ana.user, "user_" + "0" * 32):
        for call, request in (
            (stranger.GetUser, user_pb2.GetUserRequest(user=user)),
            (stranger.UpdateUser, user_pb2.UpdateUserRequest(user=user, disabled=True)),
            (stranger.DeleteUser, user_pb2.DeleteUserRequest(user=user)),
        ):
            with refused("USER_NOT_FOUND") as failures:
                call(request)
            answers.add(failures[0].message.replace(user, "USER"))
    assert len(answers) == 1
    with refused("TENANT_NOT_FOUND"):
        stranger.ListUsers(user_pb2.ListUsersRequest(tenant=house.tenant))
    with refused("USER_NOT_FOUND"):
        stack.access_api(stack.tenant_key(stack.tenant(), access_pb2.ROLE_OWNER)).CreateKey(
            access_pb2.CreateKeyRequest(user=ana.user, roles=[access_pb2.ROLE_VIEWER])
        )
    admin = users_api(stack, stack.key("admin"))
    assert admin.ListUsers(user_pb2.ListUsersRequest(tenant=house.tenant)).users == [ana]


def test_what_a_member_asks_counts_for_the_first_project_and_keys_for_theirs(house: House):
    first, second, third = (house.project(name) for name in ("first", "second", "third"))
    ana = house.ana(projects=[first, second])
    assert house.me(house.token()).project == first
    assert house.me(house.held(ana.user, project=second).api_key).project == second
    with refused("FIELD_INVALID"):
        house.held(ana.user, project=third)
    with refused("PROJECT_NOT_FOUND"):
        house.user(projects=["nowhere"])
    with refused("PROJECT_NOT_FOUND"):
        projects = user_pb2.UserProjects(projects=["nowhere"])
        house.users.UpdateUser(user_pb2.UpdateUserRequest(user=ana.user, projects=projects))
    house.access.DeleteProject(access_pb2.DeleteProjectRequest(project=first))
    assert list(house.users.GetUser(user_pb2.GetUserRequest(user=ana.user)).user.projects) == [second]
    assert house.me(house.token()).project == second


def test_what_a_service_does_for_a_user_counts_for_the_users_project(house: House):
    ana = house.ana(projects=[house.project("first")])
    service = house.stack.access_api(house.stack.key("service"))
    issued = service.IssueAssertion(
        access_pb2.IssueAssertionRequest(tenant=house.tenant, on_behalf_of=ana.user)
    ).assertion
    seen = house.me(issued.token)
    assert (seen.principal, seen.project) == (ana.user, "first")


def test_a_key_in_anothers_place_belongs_to_the_same_user(house: House):
    ana = house.ana()
    made = house.held(ana.user)
    assert made.key.user == ana.user
    rotated = house.access.RotateKey(access_pb2.RotateKeyRequest(key=made.key.key, overlap_seconds=0))
    assert rotated.key.user == ana.user
    house.users.UpdateUser(user_pb2.UpdateUserRequest(user=ana.user, disabled=True))
    with refused("CREDENTIAL_INVALID"):
        house.me(rotated.api_key)


def test_users_are_listed_by_id_and_every_change_is_in_the_audit(house: House):
    made = sorted([house.user(display_name=str(number)) for number in range(3)], key=lambda user: user.user)

    def page(token: str) -> Any:
        return house.users.ListUsers(user_pb2.ListUsersRequest(page_size=2, page_token=token))

    assert list(pages(page, "users")) == made
    user = made[0].user
    for change in (
        user_pb2.UpdateUserRequest(user=user, display_name="Ana"),
        user_pb2.UpdateUserRequest(user=user, display_name="Ana"),
        user_pb2.UpdateUserRequest(user=user, disabled=True),
        user_pb2.UpdateUserRequest(user=user, disabled=False),
    ):
        house.users.UpdateUser(change)
    house.held(user)
    house.users.DeleteUser(user_pb2.DeleteUserRequest(user=user))
    wanted = access_pb2.ListAuditEventsRequest(resource_prefix=f"tenants/{house.tenant}/users/{user}")
    events = house.access.ListAuditEvents(wanted).events
    actions = ["user.created", "user.updated", "user.disabled", "user.enabled", "user.deleted"]
    assert [event.action for event in events][::-1] == actions
    newest = house.access.ListAuditEvents(access_pb2.ListAuditEventsRequest(page_size=2)).events
    assert [event.action for event in newest] == ["user.deleted", "key.revoked"]
    assert house.access.VerifyAudit(access_pb2.VerifyAuditRequest()).intact


def test_the_command_line_manages_users_and_their_keys(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRIVIUM_API_KEY", house.key)
    monkeypatch.setenv("TRIVIUM_ACCESS_ADDRESS", house.stack.access.address)

    def said(*arguments: str) -> Any:
        outcome = CliRunner().invoke(app, [*arguments, "--json"])
        assert outcome.exit_code == 0, outcome.output
        return json.loads(outcome.stdout)

    house.project("first")
    identity = ("--issuer", house.issuer.url, "--subject", "ana")
    ana = said("users", "create", "Ana", *identity, "--role", "developer", "--project", "first")
    assert (ana["roles"], ana["projects"], ana["disabled"]) == (["developer"], ["first"], False)
    assert said("users", "get", ana["user"]) == said("users", "list")[0] == ana
    changed = said("users", "update", ana["user"], "--name", "Anna", "--issuer-roles", "--no-projects")
    assert (changed["display_name"], changed["roles"], changed["projects"]) == ("Anna", [], [])
    assert said("users", "update", ana["user"], "--role", "viewer")["display_name"] == "Anna"
    key = said("keys", "create", "--role", "viewer", "--user", ana["user"])
    assert key["user"] == ana["user"]
    assert said("users", "disable", ana["user"])["disabled"]
    with refused("CREDENTIAL_INVALID"):
        house.me(key["secret"])
    assert not said("users", "enable", ana["user"])["disabled"]
    house.me(key["secret"])
    assert CliRunner().invoke(app, ["users", "rm", ana["user"]]).exit_code == 0
    assert said("users", "list") == []
