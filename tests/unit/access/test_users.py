"""Who comes for the first time becomes one user, whoever else comes at that moment, and only who may."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from services.access.audit import Audit, Filter
from services.access.tenants import Tenants
from services.access.tokens import Person
from services.access.users import Change, NewUser, Users, id_of
from services.chassis.context import Bearer, RequestContext, Role
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey

NOW = 1_000_000
ANA = Person("https://issuer.test", "ana", "acme", frozenset({Role.VIEWER}), "Ana", 2**31, may_be_new=True)
OWNER = RequestContext("acme", "owner", frozenset({Role.OWNER}), Bearer(), "", None, "/m")
ADMIN = RequestContext("acme", "admin", frozenset({Role.ADMIN}), Bearer(), "", None, "/m")


@pytest.fixture(params=["sqlite", "postgres"])
async def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """Two processes' views of one database."""
    on_disk = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/access.db" if on_disk else str(request.getfixturevalue("postgres_url"))
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_database(url, "services.access.migrations")) for _ in range(2)]
        await opened[0].write(lambda session: Tenants(opened[0], lambda: NOW).add(session, "acme", "", "p"))
        yield opened


def users_of(replicas: list[Database]) -> list[Users]:
    return [Users(database, lambda: NOW) for database in replicas]


async def refused(reason: Reason, person: Person, users: Users) -> None:
    with pytest.raises(Failure) as caught:
        await users.sign_in(person)
    assert caught.value.reason is reason


async def test_first_sign_ins_at_one_moment_make_one_user(replicas: list[Database]) -> None:
    found = await asyncio.gather(*(users.sign_in(ANA) for users in users_of(replicas) * 10))
    assert len(set(found)) == 1
    events = await Audit(replicas[0]).page("acme", Filter(action_prefix="user."), None, 100)
    assert [event.resource for event in events] == [f"tenants/acme/users/{found[0].user}"]


async def actions(replicas: list[Database]) -> list[str]:
    """What the audit log says of users, oldest first."""
    events = await Audit(replicas[0]).page("acme", Filter(action_prefix="user."), None, 100)
    return [event.action for event in reversed(events)]


async def test_roles_that_the_issuer_gives_and_takes_are_in_the_audit_once(replicas: list[Database]) -> None:
    doors = users_of(replicas) * 5
    ana = await doors[0].sign_in(ANA)
    for roles in (frozenset({Role.ADMIN}), frozenset[Role]()):
        await asyncio.gather(*(users.sign_in(replace(ANA, roles=roles)) for users in doors))
    assert await actions(replicas) == ["user.created", "user.updated", "user.updated"]
    newest = (await Audit(replicas[0]).page("acme", Filter(), None, 1))[0]
    assert (newest.principal, newest.resource) == (ana.user, f"tenants/acme/users/{ana.user}")


async def test_who_comes_again_after_the_end_is_new_and_not_changed(replicas: list[Database]) -> None:
    users = users_of(replicas)[0]
    ana = await users.sign_in(ANA)
    await users.delete(OWNER, ana.user)
    await users.sign_in(replace(ANA, roles=frozenset({Role.OWNER})))
    assert await actions(replicas) == ["user.created", "user.deleted", "user.created"]


async def test_nobody_is_made_a_user_who_may_not_be_or_may_do_nothing(replicas: list[Database]) -> None:
    users = users_of(replicas)[0]
    for person in (
        replace(ANA, may_be_new=False),
        replace(ANA, roles=frozenset()),
        replace(ANA, tenant="nobody"),
    ):
        await refused(Reason.CREDENTIAL_INVALID, person, users)
    assert await users.page("acme", "", 10) == []


async def test_who_was_disabled_does_not_come_back_by_signing_in(replicas: list[Database]) -> None:
    here, there = users_of(replicas)
    ana = await here.sign_in(ANA)
    await here.update(OWNER, ana.user, Change(disabled=True))
    for users in (here, there):
        await refused(Reason.CREDENTIAL_INVALID, ANA, users)
        assert not await users.lives(ana.user)
    assert await there.revoked_since(NOW) == [ana.user]
    assert await there.revoked_since(NOW + 1) == []


async def exceeded(change: Awaitable[object]) -> None:
    with pytest.raises(Failure) as caught:
        await change
    assert caught.value.reason is Reason.USER_ROLES_EXCEEDED


async def test_whom_the_issuer_makes_an_admin_no_owner_changes_ends_or_makes_one_again(
    replicas: list[Database],
) -> None:
    here, there = users_of(replicas)
    ana = (await here.sign_in(ANA)).user
    await there.sign_in(replace(ANA, roles=frozenset({Role.ADMIN})))
    await exceeded(here.update(OWNER, ana, Change(disabled=True)))
    await exceeded(here.update(OWNER, ana, Change(roles=frozenset({Role.VIEWER}))))
    await exceeded(here.delete(OWNER, ana))
    # Who has roles here has these, whatever the issuer says, and takes them back at nobody's word but an admin's.
    await here.update(ADMIN, ana, Change(roles=frozenset({Role.VIEWER})))
    await here.update(OWNER, ana, Change(display_name="Anna"))
    await exceeded(here.update(OWNER, ana, Change(roles=frozenset())))
    assert (await here.get(OWNER, ana)).roles == {Role.VIEWER}
    await there.sign_in(ANA)
    await here.update(OWNER, ana, Change(roles=frozenset()))
    await here.delete(OWNER, ana)


async def test_changes_of_one_user_at_one_moment_are_all_made(replicas: list[Database]) -> None:
    ana = await users_of(replicas)[0].sign_in(ANA)
    changes = [Change(display_name="Anna"), Change(roles=frozenset({Role.OWNER})), Change(disabled=True)]
    doors = users_of(replicas) * 2
    await asyncio.gather(
        *(users.update(OWNER, ana.user, change) for users, change in zip(doors, changes, strict=False))
    )
    changed = await doors[1].get(OWNER, ana.user)
    assert (changed.display_name, changed.roles, changed.disabled) == ("Anna", frozenset({Role.OWNER}), True)


async def test_whoever_is_stopped_and_changed_by_one_call_is_so_in_the_audit(replicas: list[Database]) -> None:
    users = users_of(replicas)[0]
    ana = await users.sign_in(ANA)
    await users.update(OWNER, ana.user, Change(disabled=True, roles=frozenset({Role.OWNER})))
    await users.update(OWNER, ana.user, Change(disabled=False, display_name="Anna"))
    # What says again how it is changes nothing, whichever of the two it says.
    await users.update(OWNER, ana.user, Change(disabled=True, display_name="Anna"))
    await users.update(OWNER, ana.user, Change(disabled=True, display_name="Ana"))
    assert await actions(replicas) == [
        "user.created",
        *("user.updated", "user.disabled"),
        *("user.updated", "user.enabled"),
        "user.disabled",
        "user.updated",
    ]


async def test_who_is_disabled_and_deleted_by_many_at_once_is_so_once(replicas: list[Database]) -> None:
    ana = await users_of(replicas)[0].sign_in(ANA)
    doors = users_of(replicas) * 5
    await asyncio.gather(*(users.update(OWNER, ana.user, Change(disabled=True)) for users in doors))
    ends = await asyncio.gather(*(users.delete(OWNER, ana.user) for users in doors), return_exceptions=True)
    assert [end for end in ends if not isinstance(end, Failure)] == [None]
    assert await actions(replicas) == ["user.created", "user.disabled", "user.deleted"]


async def test_a_deleted_user_leaves_no_name_and_no_subject(replicas: list[Database]) -> None:
    users = users_of(replicas)[0]
    key = IdempotencyKey("acme", "/m", "", b"f")
    wanted = NewUser("acme", ANA.issuer, ANA.subject, "Ana", frozenset({Role.OWNER}))
    made = await users.create(OWNER, wanted, key)
    await users.delete(OWNER, made.user)
    assert not await users.lives(made.user)
    assert await users.revoked_since(NOW) == [made.user]
    await refused(Reason.CREDENTIAL_INVALID, replace(ANA, may_be_new=False), users)
    again = await users.sign_in(ANA)
    assert (again.user, again.roles, again.subject) == (made.user, frozenset(), "ana")


def test_an_id_is_of_one_person_in_one_tenant() -> None:
    ids = {id_of(tenant, issuer, "ana") for tenant in ("a", "b") for issuer in ("https://a", "https://b")}
    assert len(ids) == 4
    assert id_of("a", "https://a", "ana") in ids
    assert id_of("a", "", "") != id_of("a", "", "")
