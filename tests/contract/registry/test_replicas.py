"""Two replicas of the registry on one PostgreSQL: what each does first, both do at once."""

import asyncio
from functools import partial

from sqlalchemy.orm import Session

from services.chassis.database import open_database
from services.registry import events
from services.registry.changes import By
from services.registry.models import ensure_model

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
