"""Two replicas of the registry on one PostgreSQL: what each does first, both do at once."""

import asyncio
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from services.chassis.database import open_database
from services.registry import events
from services.registry.changes import By
from services.registry.models import ensure_model
from tests.stack import Stack, eventually
from tests.worlds import BUCKET

SCHEMA = "services.registry.migrations"


async def test_replicas_number_their_events_without_gap_or_double(postgres_url: str) -> None:
    async with open_database(postgres_url, SCHEMA, turn="registry") as one:
        async with open_database(postgres_url, SCHEMA, turn="registry") as other:
            writes = [
                side.write(partial(events.reserve, tenant=tenant))
                for tenant in ["a", "b"] * 10
                for side in (one, other)
            ]
            pairs = await asyncio.gather(*writes)
    assert sorted(revision for revision, _ in pairs) == list(range(1, 41))
    assert sorted(own for _, own in pairs) == sorted([*range(1, 21), *range(1, 21)])


async def test_a_model_that_two_replicas_make_at_once_is_made_once(postgres_url: str) -> None:
    async with open_database(postgres_url, SCHEMA, turn="registry") as one:
        async with open_database(postgres_url, SCHEMA, turn="registry") as other:

            def ensure(session: Session) -> float:
                return ensure_model(session, "t", "fares", 1.0, By("p")).created_at

            assert await asyncio.gather(*(side.write(ensure) for side in [one, other] * 10)) == [1.0] * 20


@pytest.mark.parametrize("stack", [BUCKET], indirect=True)
def test_a_database_that_breaks_off_stops_no_replica(stack: Stack, tmp_path: Path) -> None:
    one = Stack(tmp_path / "one", {"TRIVIUM_REGISTRY_SWEEP_SECONDS": "0.01"}, beside=stack)
    url = make_url(one.place.settings["TRIVIUM_REGISTRY_DATABASE_URL"]).set(drivername="postgresql")
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    try:
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as admin:

            def noticed() -> bool:
                admin.execute(f"SELECT pg_terminate_backend(pid) {others}")
                return "sweep_failed" in one.registry.log()

            eventually(noticed, "a sweep is hit")
        seen = one.registry.log().count('"event": "swept"')
        eventually(lambda: one.registry.log().count('"event": "swept"') > seen, "the next one goes on")
        user = one.newcomer()
        assert user.publish("fares").number == 1
    finally:
        one.close()
