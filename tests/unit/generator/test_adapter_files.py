"""The folder of verified adapters: what is taken in, what is refused, what leaves again and what stays."""

import asyncio
import errno
import hashlib
import json
import os
import shutil
from contextlib import asynccontextmanager

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.streams import Piece
from services.generator.adapter_files import AdapterFiles, Served, VersionFacts
from services.generator.holdings import Shared
from services.generator.places import Limits, Slots
from services.generator.priorities import Priorities, Priority
from services.generator.residency import Tier
from services.generator.sweep import Bounds, Sweep
from services.generator.verification import BaseRules
from tests.adapters import Adapter, digest
from tests.unit.generator.engines import Inline, MemoryEngine, settled

RULES = BaseRules({"model.layers.0.self_attn.q_proj": (4, 6)}, max_rank=4)
NOW = 1_000_000.0
HOUR = 3600.0


class Log:
    """Tells whether a version was forgotten."""

    def __init__(self):
        self.forgotten = asyncio.Event()

    def info(self, event, **fields):
        if event == "version_forgotten":
            self.forgotten.set()

    error = info


class Catalog:
    """Versions of one small adapter, which differ in their manifests, and the bytes of their files."""

    def __init__(self):
        self.files = Adapter().files()
        self.facts_by_version = {}
        self.away = False
        self.asked = asyncio.Event()
        self.downloading = asyncio.Event()
        self.downloading.set()

    def publish(self, model, template_digest="", template=None):
        if template is not None:
            self.files["chat_template.jinja"] = template
            template_digest = template_digest or f"sha256:{digest(template)}"
        files = [
            {"filename": name, "sha256": digest(content), "size_bytes": len(content)}
            for name, content in self.files.items()
        ]
        named = {"tenant": "t", "model": model, "kind": "LORA", "base_digest": "sha256:base"}
        text = json.dumps(named | {"template_digest": template_digest, "files": files})
        version = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        self.facts_by_version[version] = VersionFacts(version, text)
        return version

    @asynccontextmanager
    async def as_service(self):
        yield

    async def facts(self, version):
        if self.away:
            raise Failure(Reason.PEER_UNAVAILABLE, service="registry")
        if version not in self.facts_by_version:
            raise Failure(Reason.VERSION_NOT_FOUND, name=version)
        return self.facts_by_version[version]

    async def download(self, sha256, offset):
        self.asked.set()
        await self.downloading.wait()
        content = next(content for content in self.files.values() if digest(content) == sha256)
        yield Piece(offset, content[offset:])


class Shelf:
    """Files, slots and sweep of one generator."""

    def __init__(self, folder, limit_bytes=1 << 30):
        self.folder = folder
        self.catalog = Catalog()
        self.fetched = asyncio.Event()
        served = Served("base", "sha256:base", "sha256:template")

        def bases(digest):
            if digest != served.base_digest:
                raise Failure(Reason.BASE_MISMATCH, base=digest, known=served.base)
            return served, RULES

        self.files = AdapterFiles(folder, self.catalog, bases, self.fetched.set)
        self.engine = MemoryEngine(2)
        self.slots = Slots(self.engine, Limits(8, 8), lambda: 0.0)
        self.log = Log()
        bounds = Bounds(limit_bytes, HOUR)
        self.protected: set[str] = set()
        self.shared = Shared(Priorities(self.protected))
        self.sweep = Sweep(
            self.catalog, self.files, self.slots, self.log, bounds, lambda: NOW, self.fetched, self.shared
        )

    async def open(self):
        await self.engine.start()
        await self.slots.resume([])
        return self

    async def obtain(self, version, used_at=NOW):
        stored = await self.files.obtain(await self.catalog.facts(version))
        os.utime(stored.folder, (used_at, used_at))
        return stored

    @property
    def here(self):
        return {kept.version for kept in self.files.kept()}


@pytest.fixture
async def shelf(tmp_path):
    return await Shelf(tmp_path).open()


@pytest.mark.parametrize("template", ["", "sha256:template"])
async def test_a_version_of_the_template_that_is_served_is_taken(shelf, template):
    assert (await shelf.obtain(shelf.catalog.publish("m", template))).folder.is_dir()


async def test_a_version_of_another_template_is_refused_with_both_before_a_byte_is_fetched(shelf):
    with pytest.raises(Failure) as caught:
        await shelf.obtain(shelf.catalog.publish("m", "sha256:other"))
    assert caught.value.reason is Reason.TEMPLATE_MISMATCH
    assert caught.value.variables == {"template": "sha256:other", "known": "sha256:template"}
    assert shelf.here == set()


async def test_a_template_that_a_version_brings_is_kept_beside_its_weights(shelf):
    text = b"{{ messages }}"
    stored = await shelf.obtain(shelf.catalog.publish("m", template=text))
    assert stored.template_digest == f"sha256:{digest(text)}"
    assert (stored.folder / "chat_template.jinja").read_bytes() == text
    again = await shelf.obtain(stored.version)
    assert again.template_digest == stored.template_digest


async def test_a_template_of_another_digest_or_beyond_all_size_is_not_the_one_that_is_named(shelf):
    for fields in ({"template_digest": "sha256:other", "template": b"x"}, {"template": b"x" * ((1 << 20) + 1)}):
        with pytest.raises(Failure) as caught:
            await shelf.obtain(shelf.catalog.publish("m", **fields))
        assert caught.value.reason is Reason.TEMPLATE_MISMATCH


async def test_what_obtaining_took_is_told_stage_by_stage_and_to_everyone_who_waits(shelf):
    version = shelf.catalog.publish("m")
    facts = await shelf.catalog.facts(version)
    heard: list[list[str]] = [[], []]
    await asyncio.gather(*(shelf.files.obtain(facts, told.append) for told in heard))
    assert heard == [["load", "load_fetch", "load_verify"]] * 2
    await shelf.files.obtain(facts, heard[0].append)
    assert heard[0] == heard[1]


async def test_files_of_a_deleted_version_leave_and_others_stay(shelf):
    gone, kept = shelf.catalog.publish("gone"), shelf.catalog.publish("kept")
    for version in (gone, kept):
        await shelf.obtain(version)
    half = shelf.catalog.publish("half")
    (shelf.folder / f"{half.partition(':')[2]}.incoming").mkdir()
    del shelf.catalog.facts_by_version[gone], shelf.catalog.facts_by_version[half]
    assert shelf.here == {gone, kept, half}
    assert await shelf.sweep.forget_deleted()
    assert shelf.here == {kept}
    assert [path.name for path in shelf.folder.iterdir()] == [kept.partition(":")[2]]


async def test_a_registry_that_is_away_deletes_nothing(shelf):
    version = shelf.catalog.publish("m")
    await shelf.obtain(version)
    shelf.catalog.away = True
    with pytest.raises(Failure):
        await shelf.sweep.forget_deleted()
    assert shelf.here == {version}


async def test_a_deleted_version_that_runs_stays_until_it_is_idle_and_then_leaves_its_slot_too(shelf):
    version = shelf.catalog.publish("m")
    async with shelf.slots.place("t", await shelf.obtain(version)):
        shelf.catalog.facts_by_version.clear()
        assert not await shelf.sweep.forget_deleted()
        assert shelf.here == {version}
    assert await shelf.sweep.forget_deleted()
    assert (shelf.here, shelf.slots.residents()) == (set(), ())


async def test_a_version_that_is_being_fetched_is_left_alone(shelf):
    version = shelf.catalog.publish("m")
    shelf.catalog.downloading.clear()
    obtained = asyncio.create_task(shelf.obtain(version))
    await shelf.catalog.asked.wait()
    shelf.catalog.facts_by_version.clear()
    assert not await shelf.sweep.forget_deleted()
    shelf.catalog.downloading.set()
    assert (await obtained).folder.is_dir()


async def test_a_removal_ends_the_names_in_one_step_so_that_no_fetch_can_lie_in_between(shelf):
    version = shelf.catalog.publish("m")
    stored = await shelf.obtain(version)
    stored.folder.with_name(f"{stored.folder.name}.incoming").mkdir()
    removal = asyncio.create_task(shelf.files.remove(version))
    await asyncio.sleep(0)
    assert shelf.here == set()
    assert (await shelf.obtain(version)).folder.is_dir()
    await removal
    assert [path.name for path in shelf.folder.iterdir()] == [stored.folder.name]


async def test_a_folder_that_is_no_versions_is_left_alone(shelf):
    (shelf.folder / "lost+found").mkdir()
    assert await shelf.sweep.forget_deleted()
    assert (shelf.folder / "lost+found").is_dir()


async def test_the_longest_unused_leave_when_there_is_too_much_but_not_what_is_wanted(tmp_path):
    size = sum(path.stat().st_size for path in (await one_kept(tmp_path / "one")).glob("*"))
    shelf = await Shelf(tmp_path / "all", limit_bytes=2 * size).open()
    versions = [shelf.catalog.publish(f"m{number}") for number in range(4)]
    stored = [await shelf.obtain(version, NOW - HOUR * (9 - age)) for age, version in enumerate(versions)]
    await shelf.slots.warm("t", stored[0])
    assert await shelf.sweep.keep_within()
    assert shelf.here == {versions[0], versions[3]}
    assert (await shelf.obtain(versions[1])).folder.is_dir()


async def one_kept(folder):
    shelf = await Shelf(folder).open()
    return (await shelf.obtain(shelf.catalog.publish("m0"))).folder


async def test_what_somebody_has_in_hand_stays_until_he_lets_it_go(tmp_path):
    shelf = await Shelf(tmp_path, limit_bytes=0).open()
    version = shelf.catalog.publish("m")
    with shelf.files.in_hand(version), shelf.files.in_hand(version):
        await shelf.obtain(version, NOW - HOUR)
        with shelf.files.in_hand(version):
            pass
        assert not await shelf.sweep.keep_within()
    assert await shelf.sweep.keep_within()
    assert shelf.here == set()


async def test_a_folder_that_somebody_else_deleted_is_fetched_anew(shelf):
    version = shelf.catalog.publish("m")
    folder = (await shelf.obtain(version)).folder
    shutil.rmtree(folder)
    assert (await shelf.obtain(version)).folder.is_dir()


async def test_a_disk_that_is_full_when_an_adapter_is_given_its_name_says_so(shelf, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("services.generator.adapter_files.sync_tree", full)
    with pytest.raises(Failure) as caught:
        await shelf.obtain(shelf.catalog.publish("m"))
    assert caught.value.reason is Reason.DISK_FULL


async def test_what_is_protected_leaves_for_nobody_though_it_is_the_longest_unused(tmp_path):
    shelf = await Shelf(tmp_path, limit_bytes=0).open()
    protected, other = shelf.catalog.publish("protected"), shelf.catalog.publish("other")
    shelf.protected.add(protected)
    await shelf.obtain(protected, NOW - 9 * HOUR)
    await shelf.obtain(other, NOW - HOUR)
    assert not await shelf.sweep.keep_within()
    assert shelf.here == {protected}


async def test_what_was_obtained_lately_or_is_held_by_a_lost_engine_stays(tmp_path):
    shelf = await Shelf(tmp_path, limit_bytes=0).open()
    fresh, held = shelf.catalog.publish("fresh"), shelf.catalog.publish("held")
    await shelf.obtain(fresh, NOW - 1)
    await shelf.slots.warm("t", await shelf.obtain(held, NOW - HOUR))
    before = shelf.slots.suspend("lost")
    assert not await shelf.sweep.keep_within()
    assert shelf.here == {fresh, held}
    await shelf.slots.resume(before)
    await shelf.slots.unload(held)
    await shelf.sweep.keep_within()
    assert shelf.here == {fresh}


async def test_using_a_version_makes_it_the_one_used_last(shelf):
    first, second = shelf.catalog.publish("first"), shelf.catalog.publish("second")
    await shelf.obtain(first, NOW - 2 * HOUR)
    await shelf.obtain(second, NOW - HOUR)
    assert [kept.version for kept in shelf.files.kept()] == [first, second]
    await shelf.files.obtain(await shelf.catalog.facts(first))
    assert [kept.version for kept in shelf.files.kept()] == [second, first]


async def test_the_sweep_looks_at_once_when_the_registry_tells_of_a_deletion(shelf):
    version = shelf.catalog.publish("m")
    await shelf.obtain(version)
    asyncio.get_running_loop().set_default_executor(Inline())
    life = asyncio.create_task(shelf.sweep.run())
    await settled()
    assert shelf.here == {version}
    shelf.catalog.facts_by_version.clear()
    shelf.sweep.deleted()
    await shelf.log.forgotten.wait()
    assert shelf.here == set()
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


async def test_what_an_interrupted_removal_left_is_cleared_at_start(shelf):
    (shelf.folder / "0.removed").mkdir()
    (shelf.folder / "0.publishing").mkdir()
    shelf.files.begin()
    assert list(shelf.folder.iterdir()) == []


async def begun_again(shelf):
    """The files as the next process finds them."""
    again = Shelf(shelf.folder)
    again.catalog.facts_by_version = shelf.catalog.facts_by_version
    again.files.begin()
    return again


async def test_the_next_process_knows_what_lies_here_and_whose_it_is_without_the_registry(shelf):
    version = shelf.catalog.publish("m")
    stored = await shelf.obtain(version)
    again = await begun_again(shelf)
    (found,) = again.files.shelf.all()
    assert found.stored == stored
    assert found.size_bytes == sum(path.stat().st_size for path in stored.folder.iterdir())
    assert await again.files.kept_facts(version) == shelf.catalog.facts_by_version[version]
    assert await again.files.kept_facts("sha256:other") is None


async def test_a_manifest_that_is_not_the_versions_is_not_believed(shelf):
    version = shelf.catalog.publish("m")
    folder = (await shelf.obtain(version)).folder
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text().replace('"t"', '"x"'))
    again = await begun_again(shelf)
    assert again.files.shelf.all() == []


async def test_weights_that_rotted_between_two_processes_are_fetched_anew(shelf):
    version = shelf.catalog.publish("m")
    weights = (await shelf.obtain(version)).folder / "adapter_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    again = await begun_again(shelf)
    assert (await again.obtain(version)).folder.is_dir()
    assert weights.read_bytes() == good


async def test_what_an_engine_refused_is_hashed_before_it_is_used_again(shelf):
    version = shelf.catalog.publish("m")
    weights = (await shelf.obtain(version)).folder / "adapter_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    shelf.files.shelf.distrust(version)
    await shelf.obtain(version)
    assert weights.read_bytes() == good


async def test_the_lowest_class_leaves_first_though_it_was_used_last(tmp_path):
    size = sum(path.stat().st_size for path in (await one_kept(tmp_path / "one")).glob("*"))
    shelf = await Shelf(tmp_path / "all", limit_bytes=2 * size).open()
    versions = [shelf.catalog.publish(f"m{number}") for number in range(4)]
    for age, version in enumerate(versions):
        await shelf.obtain(version, NOW - HOUR * (9 - age))
    shelf.shared.priorities.set([(versions[0], Priority.SERVING), (versions[1], Priority.PREVIOUS)])
    assert await shelf.sweep.keep_within()
    assert shelf.here == {versions[0], versions[1]}
    assert shelf.shared.tallies.of(Tier.FILE, "t").evictions == 2


async def test_there_is_room_for_what_lies_here_and_for_what_fits_beside_it(shelf):
    here, other = shelf.catalog.publish("here"), shelf.catalog.publish("other")
    facts = shelf.catalog.facts_by_version
    await shelf.obtain(here)
    shelf.files.limit_bytes = shelf.files.shelf.size_bytes + 1
    assert shelf.files.has_room(facts[here])
    assert not shelf.files.has_room(facts[other])
    shelf.files.limit_bytes *= 3
    assert shelf.files.has_room(facts[other])
