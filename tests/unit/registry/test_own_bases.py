"""Between the check of an adapter and its creation its base may go; then there is no adapter either."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.registry.callers import Caller
from services.registry.manifests import File, Kind, Lineage, Manifest
from services.registry.replay import Replay
from services.registry.store import UploadRow, VersionRow
from services.registry.versions import Versions
from tests.harness.wording import missing

CALLER = Caller("acme", "somebody")
FILE = File("model.safetensors", "a" * 64, 10)
FULL = Manifest("acme", "own", Kind.FULL, f"sha256:{'b' * 64}", "", "", (FILE,), Lineage())
ADAPTER = replace(FULL, model="desk", kind=Kind.LORA)


def anew() -> Replay:
    return Replay(IdempotencyKey("acme", "CreateVersion", "", b""))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A database in which the tenant holds the file."""

    def held(session: Session) -> None:
        session.add(UploadRow(tenant="acme", sha256=FILE.sha256, filename="x", size_bytes=10, completed_at=1.0))

    async with open_database(f"sqlite:///{tmp_path}/r.db", "services.registry.migrations") as opened:
        await opened.write(held)
        yield opened


async def test_an_adapter_whose_base_goes_meanwhile_is_not_made(database: Database) -> None:
    versions = Versions(database, lambda: 1.0)
    base = await versions.create(CALLER, FULL, anew())
    found = await versions.own_base(CALLER, FULL.base_digest)
    assert found is not None
    assert found.version == base.version
    gone = update(VersionRow).where(VersionRow.version == base.version).values(deleted_at=2.0)
    await database.write(lambda session: session.execute(gone))
    with pytest.raises(Failure) as failure:
        await versions.create(CALLER, ADAPTER, anew(), own_base=base.version)
    assert failure.value.reason is Reason.VERSION_NOT_FOUND
    assert await versions.own_base(CALLER, FULL.base_digest) is None
    with pytest.raises(Failure):
        await versions.page(CALLER, "desk", None, 10)


async def test_what_no_engine_loads_says_so_under_its_own_number(database: Database) -> None:
    versions = Versions(database, lambda: 1.0)
    await versions.create(CALLER, ADAPTER, anew())
    other = replace(ADAPTER, lineage=Lineage(job="second"))
    made = await versions.create(CALLER, other, anew(), unservable_reason="it uses DoRA")
    assert not missing(made.unservable_reason, "it uses DoRA", "trivium models merge desk@2 --into")
