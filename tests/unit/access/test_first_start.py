"""The first start makes what is missing, and only that."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.access.first_start import FirstStart
from services.access.keys import Keys
from services.access.store import KeyRow
from services.access.tenants import Tenants
from services.chassis.context import Bearer, RequestContext, Role
from services.chassis.database import Database, open_database
from services.chassis.idempotency import IdempotencyKey

NOW = 1_000_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/access.db", "services.access.migrations") as opened:
        yield opened


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database, b"hashing key", lambda: NOW)


@pytest.fixture
def start(database: Database, keys: Keys, tmp_path: Path) -> Callable[[], list[str]]:
    tenants = Tenants(database, lambda: NOW)
    return FirstStart(database, tenants, keys, tenant="default", folder=tmp_path / "keys").ensure


def identifier(path: Path) -> str:
    return path.read_text().split("_")[1]


ADMIN = RequestContext("default", "p", frozenset({Role.ADMIN}), Bearer(), "c", None, "m")
ROTATION = IdempotencyKey("default", "/m", "", b"f")


async def test_it_writes_two_keys_that_work_and_a_second_start_writes_none(start, keys: Keys, tmp_path: Path):
    assert start() == ["admin.key", "service.key"]
    texts = [(tmp_path / "keys" / name).read_text() for name in ("admin.key", "service.key")]
    assert start() == []
    assert [(tmp_path / "keys" / name).read_text() for name in ("admin.key", "service.key")] == texts
    roles = [(await keys.check(text.strip())).roles for text in texts]
    assert roles == [{Role.ADMIN, Role.OWNER}, {Role.SERVICE}]


async def test_a_kill_between_the_row_and_the_file_costs_a_row(start, database: Database, keys: Keys, tmp_path: Path):
    start()
    for name in ("admin.key", "service.key"):
        (tmp_path / "keys" / name).unlink()
    # The services cannot go on without their key; an admin key that works is not made again.
    assert start() == ["service.key"]
    assert await database.read(lambda session: session.query(KeyRow).count()) == 3


async def test_the_last_admin_key_is_replaced_when_it_was_revoked(start, keys: Keys, tmp_path: Path):
    start()
    path = tmp_path / "keys" / "admin.key"
    before = identifier(path)
    await keys.revoke(ADMIN, before)
    assert start() == ["admin.key"]
    assert identifier(path) != before


async def test_a_revoked_service_key_is_replaced(start, keys: Keys, tmp_path: Path):
    start()
    path = tmp_path / "keys" / "service.key"
    await keys.revoke(ADMIN, identifier(path))
    assert start() == ["service.key"]
    assert (await keys.check(path.read_text().strip())).roles == {Role.SERVICE}


async def test_a_service_key_that_was_rotated_is_replaced_unless_its_heir_is_in_the_file(
    start, keys: Keys, tmp_path: Path
):
    start()
    path = tmp_path / "keys" / "service.key"
    over = path.read_text()
    _, heir, _ = await keys.rotate(ADMIN, identifier(path), 0, ROTATION)
    path.write_text(f"{heir}\n")
    assert start() == []
    path.write_text(over)
    assert start() == ["service.key"]
    assert (await keys.check(path.read_text().strip())).roles == {Role.SERVICE}


async def test_an_admin_key_that_was_rotated_is_made_again_when_its_heir_ends_too(start, keys: Keys, tmp_path: Path):
    start()
    path = tmp_path / "keys" / "admin.key"
    heir, _, _ = await keys.rotate(ADMIN, identifier(path), 0, ROTATION)
    assert start() == []
    await keys.revoke(ADMIN, heir.key)
    assert start() == ["admin.key"]
    assert (await keys.check(path.read_text().strip())).roles == {Role.ADMIN, Role.OWNER}


async def test_the_files_of_another_deployment_are_replaced(start, keys: Keys, tmp_path: Path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "admin.key").write_text("tv_0123456789abcdef_secret\n")
    assert start() == ["admin.key", "service.key"]
    assert await keys.check((tmp_path / "keys" / "admin.key").read_text().strip())
