"""Tenants' own encoders: named, loaded, unloaded and refused, for their tenant and for nobody else."""

import asyncio
import json
import threading

import numpy as np
import pytest

from services.chassis import models
from services.chassis.errors import Failure, Reason
from services.embedder import cross_encoder, model
from services.embedder.batching import Batch, Product
from services.embedder.embedding import Asking
from services.embedder.own_versions import Role
from tests.tiny_encoder import build_encoder
from tests.unit.embedder.own_world import ADA, BELIEVED_SECONDS, BEN, TEXT, opened, plain

PASSAGES = ["a single crossing costs six crowns", "the fog horn sounds twice", "boat ferry"]


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIVIUM_MODEL_CACHE_DIR", str(tmp_path / "models"))
    async with opened(tmp_path) as made:
        yield made


def refused_as(name, failed):
    """How a name was refused, without the name itself."""
    return failed.value.reason, failed.value.sentence.replace(name, "NAME")


async def test_a_tenants_encoder_gives_the_bits_of_its_folder_by_every_name_that_it_has(world):
    folder = world.encoder(7)
    version, digest = world.registry.publish("ada", "support", folder)
    for name in ("support@1", version, digest):
        embedded = await world.embed(ADA, name)
        assert np.array_equal(embedded.vectors[0], plain(folder))
        assert (embedded.facts.name, embedded.facts.digest) == ("support@1", digest)
    assert not np.array_equal(embedded.vectors, (await world.embed(ADA, "")).vectors)
    counted = await world.embedder.count(ADA, "support@1", ["boat"])
    assert (counted.token_counts, counted.facts.digest) == ((3,), digest)


async def test_a_tenants_reranker_scores_as_its_folder_does_and_gives_no_vectors(world):
    folder = world.cross_encoder()
    world.registry.publish("ada", "sorter", folder)
    world.registry.asking = ADA
    ranked = await world.reranker.rank(ADA, "sorter@1", TEXT, PASSAGES)
    resolved = models.resolve(f"file:{folder}", cache=world.folder / "plain")
    alone = cross_encoder.load(resolved, cross_encoder.described(resolved), dtype="float32", threads=1)
    tokens = cross_encoder.PairTokenizer(folder).pairs(TEXT, PASSAGES, alone.facts.max_tokens)
    for score, ids in zip(ranked.scores, tokens, strict=True):
        assert score == alone.compute(Batch(Product.SCORE, (ids,)))[0][0]
    with pytest.raises(Failure) as failed:
        await world.embed(ADA, "sorter@1")
    assert failed.value.reason is Reason.FIELD_INVALID
    assert "reranker" in failed.value.sentence
    encoder = world.encoder(7)
    world.registry.publish("ada", "support", encoder)
    late = await world.reranker.rank(ADA, "support@1", TEXT, PASSAGES)
    assert all(-1 <= score <= 1 for score in late.scores)
    assert late.scores != ranked.scores


async def test_to_another_tenant_it_is_as_if_it_had_never_been(world):
    version, digest = world.registry.publish("ada", "support", world.encoder(7))
    await world.embed(ADA, "support@1")
    asked = world.registry.asked.copy()
    for asking in (BEN, Asking("services/gateway")):
        for name, never in (
            ("support@1", "nothing@1"),
            (version, f"sha256:{'0' * 64}"),
            (digest, f"sha256:{'1' * 64}"),
        ):
            with pytest.raises(Failure) as real:
                await world.embed(asking, name)
            with pytest.raises(Failure) as unreal:
                await world.embed(asking, never)
            assert refused_as(name, real) == refused_as(never, unreal)
            assert real.value.reason is Reason.EMBEDDING_MODEL_NOT_FOUND
        assert (await world.models.listed(asking)).own == ()
    assert world.registry.asked["download"] == asked["download"]


async def test_who_names_a_model_that_is_none_is_told_of_the_deployments_and_of_their_own(world):
    world.registry.publish("ada", "support", world.encoder(7))
    gone, _ = world.registry.publish("ada", "support", world.encoder(8))
    world.registry.delete(gone)
    world.registry.publish("ben", "theirs", world.encoder(9))
    for rank in (False, True):
        with pytest.raises(Failure) as failed:
            await (world.reranker.rank(ADA, "suport@1", TEXT, PASSAGES) if rank else world.embed(ADA, "suport@1"))
        known = failed.value.variables["known"].split(", ")
        assert "tiny" in known
        assert known[-1] == "support@1"
        assert not {"support@2", "theirs@1"} & set(known)
        assert failed.value.variables["name"] == "suport@1"
    asked = world.registry.asked["names"]
    with pytest.raises(Failure):
        await world.embed(ADA, f"sha256:{'0' * 64}")
    assert world.registry.asked["names"] == asked


async def test_the_same_bytes_of_two_tenants_are_one_folder_and_two_models_in_memory(world):
    folder = world.encoder(7)
    world.registry.publish("ada", "support", folder)
    world.registry.publish("ben", "mine", folder)
    one = await world.embed(ADA, "support@1")
    other = await world.embed(BEN, "mine@1")
    assert np.array_equal(one.vectors, other.vectors)
    assert len(list((world.folder / "cache" / "full").glob("[0-9a-f]*"))) == 1
    assert world.in_memory() == {"support@1", "mine@1"}
    assert (await world.models.listed(BEN)).own[0].version.facts.name == "mine@1"


async def test_a_name_of_the_deployments_means_the_deployments_model(world):
    _, digest = world.registry.publish("ada", "tiny", world.encoder(1))
    asked = world.registry.asked.copy()
    for name in ("tiny", digest):
        assert (await world.embed(ADA, name)).facts.name == "tiny"
    assert world.registry.asked == asked


async def test_those_in_memory_are_bounded_and_the_longest_unused_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIVIUM_MODEL_CACHE_DIR", str(tmp_path / "models"))
    async with opened(tmp_path, room=2) as world:
        for seed in (7, 8, 9):
            world.registry.publish("ada", "support", world.encoder(seed))
        for name in ("support@1", "support@2", "support@1", "support@3"):
            await world.embed(ADA, name)
        assert world.in_memory() == {"support@1", "support@3"}
        assert len(world.workshop.batchers) == 3
        assert world.workshop.closed.batches == 1
        again = await world.embed(ADA, "support@2")
        assert np.array_equal(again.vectors[0], plain(world.encoder(8)))


async def test_room_is_taken_from_the_tenant_that_has_most(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIVIUM_MODEL_CACHE_DIR", str(tmp_path / "models"))
    async with opened(tmp_path, room=3) as world:
        world.registry.publish("ben", "mine", world.encoder(6))
        for seed in (7, 8, 9):
            world.registry.publish("ada", "support", world.encoder(seed))
        for asking, name in ((BEN, "mine@1"), (ADA, "support@1"), (ADA, "support@2"), (ADA, "support@3")):
            await world.embed(asking, name)
        assert world.in_memory() == {"mine@1", "support@2", "support@3"}


async def test_one_in_use_is_never_unloaded_and_who_finds_no_room_is_told_to_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIVIUM_MODEL_CACHE_DIR", str(tmp_path / "models"))
    async with opened(tmp_path, room=1) as world:
        for seed in (7, 8):
            world.registry.publish("ada", "support", world.encoder(seed))
        world.registry.asking = ADA
        async with world.own.encoder(ADA, "support@1", []):
            with pytest.raises(Failure) as failed:
                await world.embed(ADA, "support@2")
            assert failed.value.reason is Reason.NOT_READY
            assert failed.value.retry_after_seconds
            world.own.patience_seconds = 30
            waiting = asyncio.create_task(world.embed(ADA, "support@2"))
            await asyncio.sleep(0)
            assert world.in_memory() == {"support@1"}
        assert (await waiting).facts.name == "support@2"
        assert world.in_memory() == {"support@2"}


async def test_one_larger_than_all_the_room_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIVIUM_MODEL_CACHE_DIR", str(tmp_path / "models"))
    async with opened(tmp_path, gib=1e-6) as world:
        world.registry.publish("ada", "support", world.encoder(7))
        with pytest.raises(Failure) as failed:
            await world.embed(ADA, "support@1")
        assert "TRIVIUM_EMBEDDER_TENANT_MODELS_GIB" in failed.value.sentence


@pytest.fixture
def slowly(monkeypatch):
    """Loading stands still: set when it has begun, and to be set so that it goes on."""
    begun, go_on = threading.Event(), threading.Event()
    load = model.load

    def slow(*given, **named):
        begun.set()
        assert go_on.wait(60)
        return load(*given, **named)

    monkeypatch.setattr(model, "load", slow)
    yield begun, go_on
    go_on.set()


async def test_it_is_loaded_once_however_many_ask_and_whoever_of_them_goes_away(world, slowly):
    begun, go_on = slowly
    world.registry.publish("ada", "support", world.encoder(7))
    first = asyncio.create_task(world.embed(ADA, "support@1"))
    assert await asyncio.to_thread(begun.wait, 60)
    others = [asyncio.create_task(world.embed(ADA, "support@1", f"boat {number}")) for number in range(4)]
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go_on.set()
    assert {(await other).facts.name for other in others} == {"support@1"}
    # The deployment's and this one.
    assert len(world.workshop.batchers) == 2


async def test_while_one_is_being_loaded_others_are_computed(world, slowly):
    begun, go_on = slowly
    world.registry.publish("ada", "support", world.encoder(7))
    loading = asyncio.create_task(world.embed(ADA, "support@1"))
    assert await asyncio.to_thread(begun.wait, 60)
    assert (await world.embed(ADA, "", "another text")).facts.name == "tiny"
    assert not loading.done()
    go_on.set()
    assert (await loading).facts.name == "support@1"


async def test_a_version_that_was_deleted_is_served_a_few_seconds_longer_and_then_not(world):
    version, digest = world.registry.publish("ada", "support", world.encoder(7))
    await world.embed(ADA, digest)
    world.registry.delete(version)
    world.now += BELIEVED_SECONDS / 2
    await world.embed(ADA, digest)
    world.now += BELIEVED_SECONDS
    for name in (digest, "support@1", version):
        with pytest.raises(Failure) as failed:
            await world.embed(ADA, name)
        assert failed.value.reason is Reason.EMBEDDING_MODEL_NOT_FOUND
        assert "deleted" in failed.value.sentence
    assert world.in_memory() == set()


async def test_without_the_registry_what_is_in_memory_answers_by_digest_and_nothing_else_does(world):
    _, digest = world.registry.publish("ada", "support", world.encoder(7))
    _, cold = world.registry.publish("ada", "support", world.encoder(8))
    before = await world.embed(ADA, digest)
    world.registry.away = True
    world.now += 10 * BELIEVED_SECONDS
    assert np.array_equal((await world.embed(ADA, digest)).vectors, before.vectors)
    asked = world.registry.asked.total()
    await world.embed(ADA, digest)
    # Not asked for every text: an absent registry takes its time to be absent.
    assert world.registry.asked.total() == asked
    for asking, name in ((ADA, "support@1"), (ADA, cold), (BEN, digest)):
        with pytest.raises(Failure) as failed:
            await world.embed(asking, name)
        assert failed.value.reason is Reason.PEER_UNAVAILABLE
    assert "registry" in (await world.models.listed(ADA)).problem
    # Its folder is still here, and nobody says that it may still be served.
    world.own._unload(("ada", digest))
    world.now += 10 * BELIEVED_SECONDS
    with pytest.raises(Failure) as failed:
        await world.embed(ADA, digest)
    assert failed.value.reason is Reason.PEER_UNAVAILABLE
    world.registry.away = False
    assert (await world.embed(ADA, cold)).facts.digest == cold


async def test_a_tenants_models_are_listed_with_their_role_and_shapes_without_being_loaded(world):
    _, embedder = world.registry.publish("ada", "support", world.encoder(7))
    _, reranker = world.registry.publish("ada", "sorter", world.cross_encoder())
    world.registry.asking = ADA
    listed = (await world.models.listed(ADA)).own
    assert [(it.version.facts.name, it.version.role, it.version.files.digest) for it in listed] == [
        ("sorter@1", Role.RERANKER, reranker),
        ("support@1", Role.EMBEDDER, embedder),
    ]
    assert (listed[1].version.facts.dimensions, listed[1].version.facts.max_tokens) == (32, 48)
    assert world.in_memory() == set()
    assert [it.loaded for it in listed] == [None, None]
    downloads = world.registry.asked["download"]
    await world.models.listed(ADA)
    assert world.registry.asked["download"] == downloads
    (meant,) = (await world.models.meant(ADA, "sorter@1")).own
    assert meant.version.role is Role.RERANKER
    await world.embed(ADA, "support@1")
    assert [it.loaded is not None for it in (await world.models.listed(ADA)).own] == [False, True]


def spoiled(world, name, **changes):
    """A copy of an encoder with a changed file."""
    folder = world.encoder(7)
    for filename, change in changes.items():
        path = folder / filename.replace("_json", ".json")
        path.write_text(change(path.read_text()))
    world.registry.publish("ada", name, folder)
    return f"{name}@1"


def wide(text):
    document = json.loads(text)
    document["model"]["vocab"]["more"] = 100_000
    return json.dumps(document)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config_json": lambda _: "{}"}, "does not describe an encoder"),
        ({"config_json": lambda _: "[1]"}, "does not describe an encoder"),
        ({"sentence_bert_config_json": lambda _: '{"max_seq_length": "many"}'}, "configuration cannot be read"),
        ({"tokenizer_json": lambda _: "{"}, "tokenizer.json cannot be read"),
        ({"tokenizer_json": wide}, "tokenizer knows 100001 tokens"),
    ],
)
async def test_what_cannot_be_served_says_why_and_is_no_ones_trouble_but_its_tenants(world, changes, says):
    name = spoiled(world, "bad", **changes)
    world.registry.publish("ada", "good", world.encoder(8))
    for _ in range(2):
        with pytest.raises(Failure) as failed:
            await world.embed(ADA, name)
        assert failed.value.reason is Reason.MODEL_SOURCE_INVALID
        assert says in failed.value.sentence
    assert (await world.embed(ADA, "good@1")).facts.name == "good@1"
    assert {it.version.files.name for it in (await world.models.listed(ADA)).own} == {"bad", "good"}


async def test_weights_that_compute_no_numbers_are_refused(world):
    from safetensors.numpy import load_file, save_file

    folder = world.encoder(7)
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][:] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    world.registry.publish("ada", "bad", folder)
    with pytest.raises(Failure) as failed:
        await world.embed(ADA, "bad@1")
    assert "numbers" in failed.value.sentence
    assert world.in_memory() == set()


async def test_an_adapter_is_no_encoder(world):
    world.registry.publish("ada", "support", world.encoder(7), kind="LORA")
    with pytest.raises(Failure) as failed:
        await world.embed(ADA, "support@1")
    assert failed.value.reason is Reason.EMBEDDING_MODEL_NOT_FOUND
    assert "no encoder" in failed.value.sentence


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"max_position_embeddings": 512}, 512),
        # A sequence of 97 tokens is padded to 112.
        ({"max_position_embeddings": 100}, 96),
        ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}, 512),
        ({"max_position_embeddings": 514, "model_type": "xlm-roberta"}, 512),
    ],
)
def test_a_text_is_as_long_as_tokens_and_their_padding_have_positions(config, most, tmp_path):
    resolved = models.ResolvedModel(tmp_path, "sha256:0", "x", models.ModelKind.EMBEDDER, "x")
    assert model.positions_of(resolved, {"hidden_size": 8, "vocab_size": 9, **config}) == most


@pytest.mark.parametrize(
    ("written", "most"),
    [
        ({"sentence_bert_config.json": {"max_seq_length": 24}, "tokenizer_config.json": {"model_max_length": 32}}, 24),
        ({"sentence_bert_config.json": {}, "tokenizer_config.json": {"model_max_length": 32}}, 32),
        # What transformers writes where nobody said.
        ({"sentence_bert_config.json": {}, "tokenizer_config.json": {"model_max_length": 10**30}}, 64),
        ({}, 64),
    ],
)
def test_a_text_is_as_long_as_those_that_the_model_was_trained_with(untold, written, most):
    for filename, content in written.items():
        (untold / filename).write_text(json.dumps(content))
    found = models.ResolvedModel(untold, "sha256:0", "x", models.ModelKind.EMBEDDER, "x")
    assert model.described(found).max_tokens == most


@pytest.fixture
def untold(tmp_path):
    folder = build_encoder(tmp_path / "encoder")
    (folder / "sentence_bert_config.json").unlink()
    return folder
