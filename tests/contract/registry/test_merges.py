"""An adapter and its base become one full model, also where no engine loads the adapter; or nothing happens."""

import importlib.metadata
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.adapters import Adapter, Entry, floats, safetensors
from tests.harness.wording import missing
from tests.small_disk import small_disk
from tests.stack import Stack, User, download, eventually, refused, registry_over
from tests.tiny_model import TinyModel
from tests.worlds import BUCKET

FULL = model_pb2.VERSION_KIND_FULL
MODULE = "model.layers.0.self_attn.q_proj"
DORA = f"base_model.model.{MODULE}.lora_magnitude_vector"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A registry whose base is a folder of this machine, and whose long work takes several calls."""
    folder = TinyModel(seed=50).write(tmp_path_factory.mktemp("base") / "tiny")
    environment = {
        "TRIVIUM_REGISTRY_BASES": f"file:{folder}",
        "TRIVIUM_REGISTRY_PATIENCE_SECONDS": "0.2",
        "TRIVIUM_MODEL_CACHE_DIR": str(folder.parent / "cache"),
    }
    stack = Stack(tmp_path_factory.mktemp("merging"), environment)
    yield stack
    stack.close()


@pytest.fixture
def user(own: Stack) -> User:
    return own.newcomer()


def adapter(dora: bool = False, **changes: Any) -> dict[str, bytes]:
    """A sound adapter on one linear layer; with DoRA's magnitude no engine loads it."""
    made = Adapter(inputs=64, outputs=64, salt=0.5, config={"use_dora": dora, **changes})
    tensors: dict[str, Entry] = made.tensors()
    if dora:
        tensors[DORA] = ("F32", [64], floats([1.5] * 64))
    return {**made.files(), "adapter_model.safetensors": safetensors(tensors)}


def merged(user: User, reference: str, into: str = "desk-full", request_id: str = "") -> model_pb2.Version:
    """The merged version once it is there."""
    request = pb.MergeVersionRequest(model="desk", version=reference, target_model=into, request_id=request_id)

    def ended() -> model_pb2.Version | None:
        try:
            version: model_pb2.Version = user.api.MergeVersion(request).version
        except grpc.RpcError as error:
            if from_rpc_error(error).reason != "WORK_UNDER_WAY":
                raise
            return None
        return version

    found: model_pb2.Version = eventually(ended, "the adapter is merged")
    return found


def weight(user: User, version: model_pb2.Version) -> np.ndarray[Any, Any]:
    """The adapted layer's weight, read by the library."""
    from safetensors.numpy import load

    held = {}
    for file in version.files:
        if file.filename.endswith(".safetensors"):
            held.update(load(download(user.api, file.sha256)))
    found: np.ndarray[Any, Any] = held[f"{MODULE}.weight"]
    return found


def on(user: User, base: TinyModel, **fields: Any) -> model_pb2.Version:
    """An adapter on the tenant's own full model."""
    digest = user.publish("own", base.files(), kind=FULL, base_digest="").base_digest
    version: model_pb2.Version = user.publish("desk", adapter(**fields), base_digest=digest)
    return version


def test_what_no_engine_loads_is_kept_and_says_how_it_is_served(user: User):
    version = on(user, TinyModel(), dora=True)
    assert "DoRA" in version.unservable_reason
    assert "trivium models merge desk@1 --into" in version.unservable_reason
    assert on(user, TinyModel(seed=1)).unservable_reason == ""


def test_a_merge_is_a_full_version_that_says_where_it_comes_from(user: User):
    base = TinyModel(seed=7, tied=False, shards=3)
    version = on(user, base)
    full = merged(user, "1")
    assert (full.model, full.kind, full.number, full.unservable_reason) == ("desk-full", FULL, 1, "")
    assert full.lineage.parent_version == version.version
    told = MessageToDict(full.lineage.config)["merged"]
    assert (told["adapter"], told["base_digest"], told["base"]) == (version.version, base.digest(), "own@1")
    installed = re.escape(importlib.metadata.version("trivium-suite"))
    assert re.fullmatch(rf"{installed}(\+g[0-9a-f]{{12}}(\.dirty)?)?", full.lineage.code_version), full.lineage
    expected = base.weights()[f"{MODULE}.weight"] + 2 * (0.25 * 0.5 * 2) * np.ones((64, 64), np.float32)
    np.testing.assert_allclose(weight(user, full), expected, rtol=1e-6)
    kept = {file.filename: file.sha256 for file in full.files}
    assert download(user.api, kept["chat_template.jinja"]) == base.files()["chat_template.jinja"]
    assert download(user.api, kept["config.json"]) == base.files()["config.json"]
    assert user.resolve("base:desk-full").version == full.version
    chain = user.api.GetLineage(pb.GetLineageRequest(version=full.version)).chain
    assert [item.version for item in chain] == [full.version, version.version]


def test_dora_on_the_deployments_base_is_merged_by_its_formula(user: User):
    base = TinyModel(seed=50)
    user.publish("desk", adapter(dora=True), base_digest=base.digest())
    summed = base.weights()[f"{MODULE}.weight"] + 2 * (0.25 * 0.5 * 2) * np.ones((64, 64), np.float32)
    expected = 1.5 * summed / np.linalg.norm(summed, axis=1, keepdims=True)
    np.testing.assert_allclose(weight(user, merged(user, "1")), expected, rtol=1e-5)


def test_the_same_request_is_the_same_version_also_after_a_deadline_and_a_kill(own: Stack, user: User):
    on(user, TinyModel(seed=8))
    request_id = str(uuid.uuid4())
    request = pb.MergeVersionRequest(model="desk", version="1", target_model="desk-full", request_id=request_id)
    with pytest.raises(grpc.RpcError) as caught:
        user.api.MergeVersion(request, timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    own.registry.keep_port()
    own.restart(own.registry)
    full = merged(user, "1", request_id=request_id)
    assert merged(user, "1", request_id=request_id).version == full.version
    assert merged(user, "1").version == full.version
    with refused("REQUEST_ID_REUSED"):
        merged(user, "1", into="other", request_id=request_id)
    assert [event.model for event in user.events_so_far()] == ["own", "desk", "desk-full"]
    left = own.data / "registry" / "blobs" / "merges"
    assert not left.exists() or not list(left.iterdir())


def test_what_cannot_be_merged_says_why(own: Stack, user: User):
    base = TinyModel(seed=11)
    on(user, base)
    with refused("VERSION_NOT_FOUND"):
        merged(user, "9")
    with refused("FIELD_INVALID") as failures:
        user.api.MergeVersion(pb.MergeVersionRequest(model="own", version="1", target_model="x"))
    assert "full model" in failures[0].variables["problem"]
    with refused("FIELD_INVALID"):
        merged(user, "1", into="base")
    user.publish("desk", adapter(alpha_pattern={".*": 3}), base_digest=base.digest())
    with refused("WEIGHTS_REFUSED") as failures:
        merged(user, "2")
    assert not missing(failures[0].variables["problem"], "adapter_config.json", "alpha_pattern", "expressions")
    with refused("MODEL_NOT_FOUND"):
        user.resolve("desk-full")


def test_another_tenants_adapter_is_not_found(own: Stack, user: User):
    version = on(user, TinyModel(seed=12))
    stranger = own.newcomer()
    with refused("MODEL_NOT_FOUND"):
        merged(stranger, version.version)
    stranger.publish("desk", adapter(), base_digest=TinyModel(seed=50).digest())
    with refused("VERSION_NOT_FOUND"):
        merged(stranger, version.version)


def test_a_base_whose_files_are_elsewhere_is_named(stack: Stack):
    user = stack.newcomer()
    user.publish("desk", Adapter().files())
    with refused("BASE_MISMATCH") as failures:
        merged(user, "1")
    assert "import" in failures[0].message


@pytest.mark.parametrize("stack", [BUCKET], indirect=True)
def test_two_replicas_that_are_asked_at_once_make_one_version(stack: Stack, tmp_path: Path):
    tenant = stack.tenant()
    key = stack.tenant_key(tenant)
    second = stack.replica(tmp_path / "second")
    with grpc.insecure_channel(second.address) as channel, ThreadPoolExecutor(4) as pool:
        users = [User(stack.registry_api(key), tenant), User(registry_over(channel, key), tenant)]
        on(users[0], TinyModel(seed=20))
        request_id = str(uuid.uuid4())
        asked = [pool.submit(merged, users[number % 2], "1", request_id=request_id) for number in range(4)]
        assert len({found.result().version for found in asked}) == 1
        assert [event.model for event in users[1].events_so_far()] == ["own", "desk", "desk-full"]
        held = weight(users[1], asked[0].result())
        assert held.shape == (64, 64)
    second.stop()


@pytest.mark.parametrize("stack", [BUCKET], indirect=True)
def test_a_merge_that_two_callers_ask_two_replicas_for_is_done_by_one(stack: Stack, tmp_path: Path):
    tenant = stack.tenant()
    key = stack.tenant_key(tenant)
    folders = [tmp_path / name for name in ("first", "second")]
    replicas = [stack.replica(folder) for folder in folders]
    with ThreadPoolExecutor(2) as pool, grpc.insecure_channel(replicas[0].address) as one:
        with grpc.insecure_channel(replicas[1].address) as two:
            users = [User(registry_over(channel, key), tenant) for channel in (one, two)]
            on(users[0], TinyModel(seed=21))
            asked = [pool.submit(merged, user, "1", request_id=str(uuid.uuid4())) for user in users]
            assert len({found.result().version for found in asked}) == 1
    for replica in replicas:
        replica.stop()
    # A replica makes the folder with its first merge.
    assert sum((folder / "registry" / "blobs" / "merges").exists() for folder in folders) == 1


def test_a_full_disk_is_told_and_nothing_half_remains(tmp_path: Path):
    with small_disk(tmp_path / "small", "82m") as small:
        stack = Stack(small)
        try:
            user = stack.newcomer()
            on_large = TinyModel(hidden=512, layers=1)
            digest = user.publish("own", on_large.files(), kind=FULL, base_digest="").base_digest
            user.publish("desk", Adapter(inputs=512, outputs=512).files(), base_digest=digest)
            before = user.events_so_far()
            with refused("DISK_FULL"):
                merged(user, "1")
            assert user.events_so_far() == before
            merges = small / "registry" / "blobs" / "merges"
            assert not merges.exists() or not list(merges.iterdir())
        finally:
            stack.close()
