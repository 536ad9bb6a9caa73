"""Versions are immutable, named by the digest of their manifest, and carry where they come from."""

import hashlib
import json
import uuid

import pytest
from google.protobuf.struct_pb2 import Struct
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from tests.adapters import Adapter, digest
from tests.stack import User, download, pages, refused
from tests.tiny_model import TinyModel


def version_of(user: User, reference: str, model: str = ""):
    return user.api.GetVersion(pb.GetVersionRequest(model=model, version=reference)).version


def test_the_id_is_the_digest_of_the_manifest_that_the_version_shows(user: User):
    version = user.publish("fares")
    assert version.version == f"sha256:{digest(version.manifest.encode())}"
    manifest = json.loads(version.manifest)
    assert manifest["tenant"] == user.tenant
    assert [file["sha256"] for file in manifest["files"]] == sorted(
        (file.sha256 for file in version.files), key=[file.sha256 for file in version.files].index
    )
    assert (version.rank, version.parameters, version.number) == (2, 2 * 6 + 4 * 2, 1)


def test_a_version_that_says_so_much_of_itself_that_no_answer_holds_it_is_refused(user: User):
    with refused("FIELD_INVALID") as failures:
        user.publish("fares", lineage={"config": {"notes": "x" * 800_000}})
    assert "lineage.config" in failures[0].message
    with refused("MODEL_NOT_FOUND"):
        user.resolve("fares")


def test_a_version_is_found_by_number_digest_and_prefix(user: User):
    version = user.publish("fares")
    bare = version.version.removeprefix("sha256:")
    for reference in ("1", version.version, bare, bare[:8], f"sha256:{bare[:12]}"):
        assert version_of(user, reference, "fares") == version
    assert version_of(user, version.version) == version
    for reference in ("2", bare[:7], "0" * 8, "sha256:" + "0" * 64, "-1", "x" * 80):
        with refused("VERSION_NOT_FOUND"):
            version_of(user, reference, "fares")
    with refused("FIELD_INVALID"):
        version_of(user, bare[:12])


def test_the_same_content_twice_is_the_same_version(user: User):
    files = Adapter().files()
    assert user.publish("fares", files) == user.publish("fares", files)
    assert user.publish("fares", Adapter(salt=2.0).files()).number == 2


def test_equal_content_under_another_model_is_another_version(user: User):
    files = Adapter().files()
    assert user.publish("one", files).version != user.publish("two", files).version


def test_a_repeated_request_id_creates_one_version(user: User):
    files = Adapter().files()
    for name, content in files.items():
        user.upload(name, content)
    draft, request_id = user.draft("fares", files), str(uuid.uuid4())
    assert user.create(draft, request_id) == user.create(draft, request_id)
    draft.lineage.job = "another"
    with refused("REQUEST_ID_REUSED"):
        user.create(draft, request_id)


def test_lineage_is_kept_whole_and_leads_back_to_the_base(user: User):
    config = Struct()
    config.update({"rank": 8, "learning_rate": 3e-4, "modules": ["q_proj"], "nested": {"epochs": 3}})
    parent = user.publish("fares")
    origin = model_pb2.Lineage(
        job="job-1",
        dataset_digest="sha256:" + "d" * 64,
        dataset_rows=240,
        parent_version=parent.version,
        config=config,
        libraries={"torch": "2.13.0"},
        seed=7,
        metrics={"train_loss": 0.25},
        trained_tokens=12_345,
    )
    child = user.publish("fares", lineage=origin)
    assert child.lineage == origin
    chain = user.api.GetLineage(pb.GetLineageRequest(version=child.version)).chain
    assert [item.version for item in chain] == [child.version, parent.version]
    assert json.loads(child.manifest)["lineage"]["config"]["rank"] == 8


def test_a_parent_must_exist(user: User):
    with refused("VERSION_NOT_FOUND"):
        user.publish("fares", lineage={"parent_version": "sha256:" + "0" * 64})


def test_a_file_that_was_not_uploaded_is_named(user: User):
    files = Adapter().files()
    user.upload("adapter_config.json", files["adapter_config.json"])
    with refused("BLOB_MISSING") as failures:
        user.create(user.draft("fares", files))
    assert failures[0].variables["name"] == "adapter_model.safetensors"


def test_a_wrong_length_is_refused(user: User):
    files = Adapter().files()
    user.publish("fares", files)
    draft = user.draft("fares", files)
    draft.files[0].size_bytes += 1
    with refused("SIZE_MISMATCH"):
        user.create(draft)


def test_an_adapter_for_another_base_is_refused_by_name(user: User):
    other = "sha256:" + "0" * 64
    with refused("BASE_MISMATCH") as failures:
        user.publish("fares", base_digest=other)
    assert other in failures[0].message
    with refused("FIELD_INVALID"):
        user.publish("fares", base_digest="")


@pytest.mark.parametrize("name", ["base", "auto", "", "a@b", "Fares", "-a", "a-", "x" * 64])
def test_a_model_must_have_a_name_that_it_may_bear(user: User, name: str):
    with refused("FIELD_INVALID"):
        user.publish(name)


@pytest.mark.parametrize("field", ["template_digest", "tokenizer_digest"])
def test_a_digest_must_be_one(user: User, field: str):
    with refused("FIELD_INVALID"):
        user.publish("fares", None, **{field: "abc"})


def test_a_version_that_brings_its_chat_template_has_its_digest(user: User):
    text = b"{% for m in messages %}{{ m.content }}{% endfor %}"
    files = {**Adapter().files(), "chat_template.jinja": text}
    version = user.publish("fares", files)
    assert version.template_digest == f"sha256:{hashlib.sha256(text).hexdigest()}"
    with refused("FIELD_INVALID") as failures:
        user.publish("fares", files, template_digest="sha256:" + "0" * 64)
    assert version.template_digest in failures[0].message


@pytest.mark.parametrize("text", [b"\xff\xfe", b"{% for %}", b"x" * (1 << 21)])
def test_a_chat_template_that_is_none_is_refused(user: User, text: bytes):
    with refused("WEIGHTS_REFUSED"):
        user.publish("fares", {**Adapter().files(), "chat_template.jinja": text})


def test_a_metric_that_is_not_a_number_is_refused(user: User):
    with refused("FIELD_INVALID"):
        user.publish("fares", lineage={"metrics": {"loss": float("nan")}})


def test_a_full_model_is_a_version_too(user: User):
    model = TinyModel()
    version = user.publish("own", model.files(), kind=model_pb2.VERSION_KIND_FULL, base_digest="")
    counted = sum(value.size for value in model.weights().values())
    assert (version.kind, version.rank, version.parameters) == (model_pb2.VERSION_KIND_FULL, 0, counted)


def test_versions_are_listed_newest_first_in_pages(user: User):
    for salt in range(5):
        user.publish("fares", Adapter(salt=salt + 1.0).files())

    def page(token: str):
        return user.api.ListVersions(pb.ListVersionsRequest(model="fares", page_size=2, page_token=token))

    assert [version.number for version in pages(page, "versions")] == [5, 4, 3, 2, 1]


def test_a_version_in_use_stays_and_a_free_one_goes(user: User):
    parent = user.publish("fares", Adapter(salt=1.0).files())
    child = user.publish("fares", Adapter(salt=2.0).files(), lineage={"parent_version": parent.version})
    user.point("fares", child.version)
    for version in (parent, child):
        with refused("VERSION_IN_USE"):
            user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version=version.version))
    user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod"))
    for version in (child, parent):
        user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version=version.version))
        with refused("VERSION_NOT_FOUND"):
            version_of(user, version.version)
    assert user.publish("fares").number == 3


def test_the_files_of_a_version_are_downloaded_by_digest(user: User):
    files = Adapter().files()
    version = user.publish("fares", files)
    assert {file.filename: download(user.api, file.sha256) for file in version.files} == files
