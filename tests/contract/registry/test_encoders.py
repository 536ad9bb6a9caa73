"""A tenant's own embedder or reranker: a version like any other, named by the digest of its folder, with what it makes."""

from pathlib import Path
from typing import Any

import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.models import resolve
from tests.encoder_files import EncoderFiles
from tests.harness.wording import missing
from tests.stack import Stack, User, refused

ENCODER = model_pb2.VERSION_KIND_ENCODER
RERANKER = "BertForSequenceClassification"


def publish_encoder(user: User, model: str = "own", made: EncoderFiles | None = None, **fields: Any) -> Any:
    return user.publish(model, (made or EncoderFiles()).files(), kind=ENCODER, base_digest="", **fields)


def test_it_is_named_by_the_digest_of_its_folder_and_says_what_it_makes(user: User, tmp_path: Path):
    made = EncoderFiles()
    version = publish_encoder(user, made=made)
    for name, content in made.files().items():
        (tmp_path / name).write_bytes(content)
    assert version.base_digest == resolve(f"file:{tmp_path}", cache=tmp_path.parent / "cache").digest
    assert (version.kind, version.encoder_role) == (ENCODER, model_pb2.ENCODER_ROLE_EMBEDDER)
    assert (version.number, version.rank, version.unservable_reason) == (1, 0, "")
    assert version.parameters == sum(value.size for value in made.weights().values())
    pairs = publish_encoder(user, "pairs", EncoderFiles(RERANKER))
    found = user.api.GetVersion(pb.GetVersionRequest(version=pairs.version)).version
    assert (found.kind, found.encoder_role) == (ENCODER, model_pb2.ENCODER_ROLE_RERANKER)
    with refused("FIELD_INVALID") as failures:
        user.publish("own", made.files(), kind=ENCODER, base_digest=f"sha256:{'1' * 64}")
    assert version.base_digest in failures[0].message


def test_the_same_files_again_are_the_same_version_and_others_are_the_next(user: User):
    first = publish_encoder(user)
    assert publish_encoder(user).version == first.version
    second = publish_encoder(user, made=EncoderFiles(seed=1))
    assert (second.number, second.base_digest == first.base_digest) == (2, False)


@pytest.mark.parametrize("why", ["NaN", "two labels", "code", "a pickle", "no tokenizer"])
def test_what_is_no_sound_encoder_becomes_no_version(user: User, why: str):
    files = EncoderFiles().files()
    match why:
        case "NaN":
            files["model.safetensors"] = files["model.safetensors"][:-4] + b"\xff" * 4
        case "two labels":
            files = EncoderFiles(RERANKER, changes={"num_labels": 2}).files()
        case "code":
            files = EncoderFiles(changes={"auto_map": {"AutoModel": "evil.Model"}}).files()
        case "a pickle":
            files["model-00001-of-00002.safetensors"] = files.pop("model.safetensors")
            files["vocab.txt"] = b"\x80\x04\x95"
        case _:
            del files["tokenizer.json"]
    with refused("WEIGHTS_REFUSED"):
        user.publish("own", files, kind=ENCODER, base_digest="")
    with refused("MODEL_NOT_FOUND"):
        user.api.ListVersions(pb.ListVersionsRequest(model="own"))


def test_an_alias_serves_it_at_once_for_no_generator_has_to_load_it(stack: Stack, user: User):
    first, second = publish_encoder(user), publish_encoder(user, made=EncoderFiles(seed=1))
    alias = user.point("own", first.version)
    assert (alias.state, alias.serving_version) == (model_pb2.ALIAS_STATE_SERVING, first.version)
    stack.service().report("g1", user.tenant, second.version, "FAILED", "no engine loads it")
    moved = user.point("own", second.version)
    assert (moved.serving_version, moved.previous_version) == (second.version, first.version)
    assert user.resolve("own").version == second.version
    back = user.point("own", first.version, rollback=True)
    assert (back.state, back.serving_version) == (model_pb2.ALIAS_STATE_SERVING, first.version)


def test_a_gate_still_decides_whether_an_alias_may_take_it(user: User):
    first, second = publish_encoder(user), publish_encoder(user, made=EncoderFiles(seed=1))
    user.point("own", first.version)
    gate = pb.Gate(gate="good", metric="ndcg", required_value=0.5)
    user.api.CreateGate(pb.CreateGateRequest(model="own", gate=gate))
    with refused("GATE_NOT_PASSED"):
        user.point("own", second.version)
    assert user.alias("own").serving_version == first.version


def test_a_canary_of_it_gets_its_share_at_once(user: User):
    first, second = publish_encoder(user), publish_encoder(user, made=EncoderFiles(seed=1))
    user.point("own", first.version)
    request = pb.SetCanaryRequest(model="own", alias="prod", version=second.version, percent=100)
    (canary,) = user.api.SetCanary(request).alias.canaries
    assert canary.state == model_pb2.CANARY_STATE_SERVING
    found = user.resolve("own")
    assert (found.version, found.canary) == (second.version, True)


def test_it_is_no_base_and_nothing_is_merged_into_it(user: User):
    version = publish_encoder(user)
    for name in ("base:own", "base:own@1"):
        with refused("FIELD_INVALID"):
            user.resolve(name)
    with refused("FIELD_INVALID") as failures:
        user.api.MergeVersion(pb.MergeVersionRequest(model="own", version="1", target_model="other"))
    assert "an encoder" in failures[0].message
    with refused("BASE_MISMATCH"):
        user.publish("desk", base_digest=version.base_digest)


def test_it_is_found_by_its_kind_and_by_its_digest(user: User):
    version = publish_encoder(user)
    user.publish("desk")
    for request in (pb.SearchVersionsRequest(kind=ENCODER), pb.SearchVersionsRequest(base_digest=version.base_digest)):
        (found,) = user.api.SearchVersions(request).found
        assert (found.version.version, found.version.encoder_role) == (version.version, model_pb2.ENCODER_ROLE_EMBEDDER)


def test_it_goes_and_comes_back_like_any_version(user: User):
    version = publish_encoder(user)
    user.point("own", version.version)
    with refused("VERSION_IN_USE"):
        user.api.DeleteVersion(pb.DeleteVersionRequest(model="own", version="1"))
    user.api.DeleteAlias(pb.DeleteAliasRequest(model="own", alias="prod"))
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="own", version="1"))
    with refused("VERSION_NOT_FOUND"):
        user.api.GetVersion(pb.GetVersionRequest(version=version.version))
    assert (
        user.api.RestoreVersion(pb.RestoreVersionRequest(model="own", version="1")).version.version == version.version
    )


def test_another_tenants_encoder_is_not_there(stack: Stack, user: User):
    made = EncoderFiles()
    version = publish_encoder(user, made=made)
    stranger = stack.newcomer()
    with refused("VERSION_NOT_FOUND"):
        stranger.api.GetVersion(pb.GetVersionRequest(version=version.version))
    with refused("MODEL_NOT_FOUND"):
        stranger.resolve("own@1")
    assert not stranger.api.SearchVersions(pb.SearchVersionsRequest(base_digest=version.base_digest)).found
    file = next(file for file in version.files if file.filename == "model.safetensors")
    with refused("BLOB_NOT_FOUND"):
        list(stranger.api.DownloadBlob(pb.DownloadBlobRequest(sha256=file.sha256)))
    own = publish_encoder(stranger, made=made)
    assert (own.base_digest, own.version == version.version) == (version.base_digest, False)


def test_under_one_model_all_versions_make_the_same(user: User):
    publish_encoder(user, "finder")
    publish_encoder(user, "judge", EncoderFiles(RERANKER))
    user.publish("desk")
    with refused("FIELD_INVALID") as failures:
        user.publish("finder")
    assert not missing(failures[0].variables["problem"], "finder@1", "embedder", "adapter")
    with refused("FIELD_INVALID") as failures:
        publish_encoder(user, "finder", EncoderFiles(RERANKER))
    assert not missing(failures[0].variables["problem"], "finder@1", "embedder", "reranker")
    for model in ("desk", "judge"):
        with refused("FIELD_INVALID"):
            publish_encoder(user, model)
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="finder", version="1"))
    with refused("FIELD_INVALID"):
        user.publish("finder")
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="finder", version="1", purge=True))
    assert user.publish("finder").kind == model_pb2.VERSION_KIND_LORA
