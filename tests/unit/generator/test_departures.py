"""Full models that were deleted: whose they are no more, and when their engine stops."""

from contextlib import asynccontextmanager

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.departures import Departures
from services.generator.kept_models import KeptModels
from services.generator.supervision import EngineState
from tests.unit.generator.engines import Quiet, settled
from tests.unit.generator.pools import world


class Catalog:
    """A registry that knows some versions, or cannot be reached."""

    def __init__(self):
        self.versions = {"mine", "yours"}
        self.away = False

    @asynccontextmanager
    async def as_service(self):
        yield

    async def facts(self, version):
        if self.away:
            raise Failure(Reason.PEER_UNAVAILABLE, service="registry")
        if version not in self.versions:
            raise Failure(Reason.VERSION_NOT_FOUND, name=version)


async def test_a_deleted_full_model_is_its_tenants_no_more_and_its_engine_stops_when_nobody_has_one(tmp_path):
    async with world() as w:
        host, catalog = w.host("a"), Catalog()
        departures = Departures(catalog, w.pool, KeptModels(tmp_path), Quiet(), 3600.0)
        host.belongs_to("me", "mine", "model")
        host.belongs_to("you", "yours", "model")
        use = w.use("a")
        await settled()
        await use.end()
        catalog.versions.discard("mine")
        catalog.away = True
        with pytest.raises(Failure):
            await departures.forget_deleted()
        assert set(host.owners) == {"me", "you"}, "a registry that is away has deleted nothing"
        catalog.away = False
        await departures.forget_deleted()
        await settled()
        assert set(host.owners) == {"you"}
        assert host.ready
        catalog.versions.discard("yours")
        await departures.forget_deleted()
        await settled()
        assert w.states() == {"a": EngineState.STOPPED}
