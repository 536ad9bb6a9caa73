"""Which engine a request finds: by version, by name or digest of a base, under whose identity, over real files."""

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.full_models import FullModels
from services.chassis.streams import Piece
from services.generator.adapter_files import VersionFacts
from services.generator.announcing import UNLOADED, Announcements, Word
from services.generator.bases import Bases
from services.generator.fleet import Fleet
from services.generator.kept_models import KeptModels
from services.generator.places import Limits, Slots
from services.generator.pool import Pool
from services.generator.pool_table import PoolLimits
from services.generator.supervision import EngineState
from tests.adapters import digest
from tests.harness.wording import missing
from tests.tiny_model import TinyModel
from tests.unit.generator.engines import MemoryEngine, Quiet, hosted, settled, stored


class Registry:
    """Versions and blobs; ``readers`` may read a version, and everybody who asks for the service."""

    def __init__(self):
        self.facts_by_version = {}
        self.tenant_of = {}
        self.names = {}
        self.blobs = {}
        self.downloads = 0
        self.downloading = asyncio.Event()
        self.downloading.set()

    def add(self, tenant, model, kind, base_digest, files, base_version=""):
        self.blobs |= {digest(content): content for content in files.values()}
        document = {
            "tenant": tenant,
            "model": model,
            "kind": kind,
            "base_digest": base_digest,
            "template_digest": "",
            "files": [
                {"filename": name, "sha256": digest(content), "size_bytes": len(content)}
                for name, content in sorted(files.items())
            ],
        }
        text = json.dumps(document, sort_keys=True)
        version = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        self.facts_by_version[version] = VersionFacts(version, text, base_version)
        self.tenant_of[version] = tenant
        self.names[tenant, model] = version
        return version

    def full(self, tenant, model, made):
        return self.add(tenant, model, "FULL", made.digest(), made.files())

    def adapter(self, tenant, model, base_digest, base_version=""):
        return self.add(tenant, model, "LORA", base_digest, {"adapter_model.safetensors": b"w"}, base_version)

    @asynccontextmanager
    async def as_service(self):
        yield

    async def facts(self, version):
        return self.facts_by_version[version]

    async def download(self, sha256, offset):
        self.downloads += 1
        await self.downloading.wait()
        yield Piece(offset, self.blobs[sha256][offset:])

    def seen_by(self, tenant):
        return Seen(self, tenant)


class Seen:
    """The registry under one tenant's identity."""

    def __init__(self, registry, tenant):
        self._registry = registry
        self._tenant = tenant

    async def facts(self, version):
        if self._registry.tenant_of.get(version) != self._tenant:
            raise Failure(Reason.VERSION_NOT_FOUND, name=version)
        return await self._registry.facts(version)

    async def full_model(self, name):
        return self._registry.names.get((self._tenant, name), "")


class Told:
    """What the registry was told of versions."""

    def __init__(self, registry):
        self.as_service = registry.as_service
        self.words = []

    async def report(self, tenant, version, word, reason):
        self.words.append((version, word, reason))


class Shelf:
    def __init__(self):
        self.gone = set()

    async def obtain(self, facts, ended=lambda _: None):
        return stored(facts.version)

    def in_hand(self, version):
        return nullcontext()

    def used_at(self, version):
        return 0.0 if version in self.gone else 1.0

    def has_room(self, facts):
        return True


class World:
    """Bases over a pool with room for one engine beside the default one."""

    def __init__(self, folder, room=1, **bounds):
        self.registry = Registry()
        self.lives = []
        self.pool = Pool(PoolLimits(1 + room, 9), lambda: 0.0, self._spawn, Quiet())
        self.opened = []
        self.unreadable = False
        self.models = FullModels(folder)
        self.kept = KeptModels(folder / "kept")
        self.kept.begin()
        self.bases = Bases(self.pool, self.models, self.registry, self.open_host, self.blocking, self.kept, **bounds)
        self.bases.deploy(self.host("sha256:default", "default", always_on=True))
        self.shelf = Shelf()
        self.fleet = Fleet(self.pool, self.bases, self.shelf, self.registry)

    def _spawn(self, work):
        self.lives.append(asyncio.create_task(work))
        return self.lives[-1]

    async def blocking(self, function, *arguments):
        return function(*arguments)

    def open_host(self, base):
        if self.unreadable:
            raise Failure(Reason.WEIGHTS_REFUSED, problem="its tokenizer cannot be read")
        assert base.folder.is_dir()
        self.opened.append(base.digest)
        return self.host(base.digest, base.name)

    def host(self, base_digest, name, *, always_on=False):
        engine = MemoryEngine(2, base_digest, name)
        slots = Slots(engine, Limits(8, 8), lambda: 0.0)

        def heard(now, why):
            self.pool.heard(host)

        host = hosted(engine, slots, heard, always_on=always_on, attempts=None if always_on else 2)
        return host

    @asynccontextmanager
    async def in_use(self, made):
        prepared = await self.fleet.obtain(await self.registry.facts(self.registry.full("t", "busy", made)))
        async with self.pool.use(prepared.target.host, "t"):
            yield

    async def find(self, tenant, version="", base=""):
        return await self.bases.find(self.registry.seen_by(tenant), version, base)

    async def refusal(self, *args, **fields):
        with pytest.raises(Failure) as caught:
            await self.find(*args, **fields)
        return caught.value.reason


@pytest.fixture
async def world(tmp_path, request):
    opened = World(tmp_path, **getattr(request, "param", {}))
    await settled()
    yield opened
    for life in opened.lives:
        life.cancel()
    await asyncio.gather(*opened.lives, return_exceptions=True)
    await opened.bases.close()


ONE, TWO = TinyModel(seed=1), TinyModel(seed=2)


async def test_nothing_named_means_the_default_base_and_its_name_and_digest_mean_it_too(world):
    for base in ("", "default", "sha256:default"):
        target = await world.find("t", base=base)
        assert (target.host, target.name) == (world.bases.default, "base")
    assert await world.refusal("t", base="nowhere") is Reason.BASE_NOT_FOUND


async def test_another_base_of_the_deployment_is_everybodys_and_stopped_until_it_is_asked_for(world):
    other = world.host("sha256:other", "other")
    other.base = replace(other.base, public=True)
    world.bases.deploy(other)
    world.bases.deploy(world.host("sha256:other", "again"))
    for base in ("other", "sha256:other"):
        target = await world.find("t", base=base)
        assert (target.host, target.name, target.version) == (other, "base:other", "")
    assert world.pool.state(other) is EngineState.STOPPED
    adapter = world.registry.adapter("t", "desk", "sha256:other")
    assert (await world.find("t", adapter)).host is other
    assert "other (sha256:other)" in world.bases.known()


async def test_while_more_bases_are_prepared_nobody_is_told_that_one_is_not_served(world):
    adapter = world.registry.adapter("t", "desk", "sha256:other")
    world.bases.preparing = True
    assert await world.refusal("t", adapter) is Reason.NOT_READY
    assert await world.refusal("t", base="other") is Reason.NOT_READY
    with pytest.raises(Failure) as caught:
        world.bases.rules("sha256:other")
    assert caught.value.reason is Reason.NOT_READY
    assert (await world.find("t", base="default")).host is world.bases.default
    world.bases.preparing = False
    assert await world.refusal("t", adapter) is Reason.BASE_MISMATCH
    assert await world.refusal("t", base="other") is Reason.BASE_NOT_FOUND


async def test_a_full_model_is_fetched_once_however_many_ask_and_found_by_version_name_and_digest(world):
    version = world.registry.full("t", "own", ONE)
    world.registry.downloading.clear()
    asked = [asyncio.create_task(world.find("t", version)) for _ in range(3)]
    await settled()
    asked[0].cancel()
    world.registry.downloading.set()
    targets = await asyncio.gather(*asked[1:])
    assert {target.host.digest for target in targets} == {ONE.digest()}
    assert (targets[0].name, targets[0].facts) == (f"own@{version}", None)
    assert world.opened == [ONE.digest()]
    assert world.registry.downloads == len(ONE.files())
    assert (await world.find("t", base="own")).version == version
    assert (await world.find("t", version, ONE.digest())).host is targets[0].host
    assert world.pool.state(targets[0].host) is EngineState.STOPPED


async def test_an_adapter_goes_to_the_engine_of_the_base_that_it_is_tied_to(world):
    base = world.registry.full("t", "own", ONE)
    adapter = world.registry.adapter("t", "desk", ONE.digest(), base)
    target = await world.find("t", adapter)
    assert (target.host.digest, target.version, target.model) == (ONE.digest(), adapter, "desk")
    assert target.facts is not None
    on_default = world.registry.adapter("t", "plain", "sha256:default")
    assert (await world.find("t", on_default)).host is world.bases.default
    orphan = world.registry.adapter("t", "orphan", "sha256:elsewhere")
    assert await world.refusal("t", orphan) is Reason.BASE_MISMATCH
    assert await world.refusal("t", adapter, "default") is Reason.BASE_MISMATCH


async def test_what_runs_already_is_no_more_readable_than_what_does_not(world):
    version = world.registry.full("owner", "own", ONE)
    adapter = world.registry.adapter("owner", "desk", ONE.digest(), version)
    await world.find("owner", version)
    assert await world.refusal("stranger", version) is Reason.VERSION_NOT_FOUND
    assert await world.refusal("stranger", adapter) is Reason.VERSION_NOT_FOUND
    assert await world.refusal("stranger", base="own") is Reason.BASE_NOT_FOUND
    # An adapter that names the digest without the right to the model finds no base.
    guess = world.registry.adapter("stranger", "guess", ONE.digest())
    assert await world.refusal("stranger", guess) is Reason.BASE_MISMATCH
    own = world.registry.full("stranger", "mine", ONE)
    target = await world.find("stranger", own)
    assert set(target.host.owners) == {"owner", "stranger"}
    assert target.name == f"mine@{own}"


async def test_a_manifest_whose_files_are_not_its_digest_is_refused(world):
    forged = world.registry.add("t", "forged", "FULL", TWO.digest(), ONE.files())
    assert await world.refusal("t", forged) is Reason.WEIGHTS_REFUSED
    assert not world.opened


async def test_a_model_that_cannot_be_opened_is_refused_and_may_be_asked_for_again(world):
    version = world.registry.full("t", "own", ONE)
    world.unreadable = True
    assert await world.refusal("t", version) is Reason.WEIGHTS_REFUSED
    world.unreadable = False
    assert (await world.find("t", version)).host.digest == ONE.digest()


@pytest.mark.parametrize("world", [{"most_known": 2}], indirect=True)
async def test_the_one_nobody_asked_for_longest_is_forgotten_and_found_anew(world):
    made = [TinyModel(seed=seed) for seed in (1, 2, 3)]
    versions = [world.registry.full("t", f"m{model.seed}", model) for model in made]
    for version in (versions[0], versions[1], versions[0], versions[2]):
        await world.find("t", version)
    known = {host.digest for host in world.pool.hosts()}
    assert known == {"sha256:default", made[0].digest(), made[2].digest()}
    await world.find("t", versions[1])
    assert world.pool.get(made[1].digest()) is not None


async def test_a_full_model_is_ready_once_its_engine_answered_or_while_there_is_no_room_for_it(world):
    first, second = world.registry.full("t", "one", ONE), world.registry.full("t", "two", TWO)
    prepared = await world.fleet.obtain(await world.registry.facts(first))
    await world.fleet.warm("t", prepared, pending=True)
    assert prepared.target.host.ready
    assert world.fleet.holds(first)
    async with world.pool.use(prepared.target.host, "t"):
        other = await world.fleet.obtain(await world.registry.facts(second))
        await world.fleet.warm("t", other, pending=True)
        assert world.pool.state(other.target.host) is EngineState.STOPPED
        assert world.fleet.holds(second)
    # What already serves is not started ahead of its requests.
    await world.fleet.warm("t", other, pending=False)
    assert world.pool.state(other.target.host) is EngineState.STOPPED


async def test_a_full_model_whose_engine_was_stopped_is_ready_no_more_until_it_has_started_again(world):
    registry, version = Told(world.registry), world.registry.full("t", "one", ONE)
    waiting: list[str] = []
    announcements = Announcements(registry, world.fleet, asyncio.sleep, waiting.append)
    world.lives.append(asyncio.create_task(announcements.follow()))
    prepared = await world.fleet.obtain(await world.registry.facts(version))
    await world.fleet.warm("t", prepared, pending=True)
    assert await announcements.ready("t", version)
    world.pool.release(prepared.target.host)
    await settled()
    assert world.pool.state(prepared.target.host) is EngineState.STOPPED
    stopped = "its engine is stopped until it is needed"
    assert registry.words == [(version, Word.READY, ""), (version, Word.LOADING, stopped)]
    assert waiting == [version], "an alias that waits for it hears of it"
    assert not await announcements.ready("t", version), "an alias that is set back to it waits"
    # Whoever names it is served all the same, and so is an alias that serves it.
    async with world.pool.use(prepared.target.host, "t"):
        assert world.fleet.holds(version)
    assert await announcements.ready("t", version)


async def test_an_adapter_on_a_full_model_is_ready_in_its_slot_or_while_there_is_no_room_for_the_engine(world):
    base = world.registry.full("t", "one", ONE)
    adapter = world.registry.adapter("t", "desk", ONE.digest(), base)
    prepared = await world.fleet.obtain(await world.registry.facts(adapter))
    await world.fleet.warm("t", prepared, pending=False)
    host = prepared.target.host
    assert world.pool.state(host) is EngineState.STOPPED, "nobody waits for it"
    assert not world.fleet.holds(adapter)
    await world.fleet.warm("t", prepared, pending=True)
    assert host.slots.holds(adapter)
    assert world.fleet.holds(adapter)
    await host.slots.unload(adapter)
    assert not world.fleet.holds(adapter)
    assert world.fleet.absence(adapter) == UNLOADED
    world.pool.release(host)
    await settled()
    assert world.pool.state(host) is EngineState.STOPPED
    assert not world.fleet.holds(adapter), "there is room to start its engine first"
    assert not missing(world.fleet.absence(adapter), "engine", "stopped")
    async with world.in_use(TWO):
        assert world.fleet.holds(adapter), "no engine in use makes room for it"
        world.shelf.gone.add(adapter)
        assert not world.fleet.holds(adapter), "its files have made room for others"


async def test_a_full_model_that_no_engine_comes_up_with_is_refused_with_the_reason_and_held_no_more(world):
    version = world.registry.full("t", "one", ONE)
    prepared = await world.fleet.obtain(await world.registry.facts(version))
    prepared.target.host.engine.unstartable = "no such layer"
    with pytest.raises(Failure) as caught:
        await world.fleet.warm("t", prepared, pending=True)
    assert caught.value.reason is Reason.WEIGHTS_REFUSED
    assert "no such layer" in caught.value.sentence
    assert not world.fleet.holds(version)


async def test_a_full_model_beyond_the_budget_is_refused_whether_anybody_waits_for_it_or_not(world):
    version = world.registry.full("t", "one", ONE)
    prepared = await world.fleet.obtain(await world.registry.facts(version))
    world.pool.forget(prepared.target.host)
    prepared.target.host.size_bytes = 9
    world.pool.add(prepared.target.host)
    with pytest.raises(Failure) as caught:
        await world.fleet.warm("t", prepared, pending=False)
    assert caught.value.reason is Reason.ENGINE_TOO_LARGE
    assert not world.fleet.holds(version)


async def test_an_encoder_answers_nothing_and_none_of_it_is_fetched(world):
    encoder = world.registry.add("t", "finder", "ENCODER", "sha256:own", {"model.safetensors": b"w"})
    assert await world.refusal("t", encoder) is Reason.FIELD_INVALID
    with pytest.raises(Failure, match=r"finder.* encoder") as refused:
        await world.fleet.obtain(await world.registry.facts(encoder))
    assert refused.value.reason is Reason.FIELD_INVALID
    assert world.registry.downloads == 0
