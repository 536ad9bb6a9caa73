"""A generator holds what it is ready for while it lives; of one that fell silent nothing is held."""

from pathlib import Path

from services.chassis.database import open_database
from services.registry.holds import Holds
from services.registry.lives import hear
from services.registry.readiness import Life, ReadinessState
from services.registry.store_aliases import ReadinessRow

TTL_SECONDS = 60.0


async def test_a_generator_that_fell_silent_holds_nothing(tmp_path: Path):
    now = 1000.0
    holds = Holds(lambda: now, TTL_SECONDS)
    word = {"tenant": "t", "version": "v", "reason": "", "updated_at": now, "instance": "i"}
    async with open_database(f"sqlite:///{tmp_path}/r.db", "services.registry.migrations") as database:

        def speak(session):
            for name, state in (("g", ReadinessState.READY), ("h", ReadinessState.LOADING)):
                hear(session, Life(name, "i"), now)
                session.merge(ReadinessRow(generator=name, state=state.value, **word))

        await database.write(speak)
        assert await database.read(lambda session: holds.ready_on(session, "t", ["v"])) == ["g"]
        assert await database.read(lambda session: holds.ready_on(session, "u", ["v"])) == []
        now += TTL_SECONDS + 1
        assert await database.read(lambda session: holds.ready_on(session, "t", ["v"])) == []
