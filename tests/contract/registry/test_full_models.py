"""A tenant's own base: a full model, named by the digest of its folder, and adapters that are tied to it."""

from pathlib import Path

from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.models import resolve
from tests.adapters import Adapter
from tests.harness.wording import missing
from tests.stack import Stack, User, refused
from tests.tiny_model import TinyModel

FULL = model_pb2.VERSION_KIND_FULL


def publish_full(user: User, model: str = "own", made: TinyModel | None = None, **fields):
    return user.publish(model, (made or TinyModel()).files(), kind=FULL, base_digest="", **fields)


def adapter_on(user: User, base_digest: str, model: str = "desk", **changes):
    fitting = Adapter(inputs=64, outputs=64, **changes)
    return user.publish(model, fitting.files(), base_digest=base_digest)


def test_its_digest_is_that_of_its_folder_wherever_it_lies(user: User, tmp_path: Path):
    model = TinyModel(shards=2, tied=False)
    version = publish_full(user, made=model)
    folder = model.write(tmp_path / "elsewhere")
    assert version.base_digest == resolve(f"file:{folder}", cache=tmp_path / "cache").digest
    with refused("FIELD_INVALID") as failures:
        user.publish("own", model.files(), kind=FULL, base_digest=f"sha256:{'1' * 64}")
    assert version.base_digest in failures[0].message


def test_an_adapter_belongs_to_it_and_must_fit_its_layers(user: User):
    base = publish_full(user)
    assert adapter_on(user, base.base_digest).base_digest == base.base_digest
    with refused("WEIGHTS_REFUSED") as failures:
        user.publish("desk", Adapter(inputs=6, outputs=4).files(), base_digest=base.base_digest)
    assert not missing(failures[0].variables["problem"], "q_proj", "4 x 6")
    with refused("WEIGHTS_REFUSED") as failures:
        adapter_on(user, base.base_digest, module="model.layers.7.self_attn.q_proj")
    assert not missing(failures[0].variables["problem"], "module model.layers.7.self_attn.q_proj")


def test_another_tenants_full_model_is_no_base_and_no_name(stack: Stack, user: User):
    base = publish_full(user)
    stranger = stack.newcomer()
    with refused("BASE_MISMATCH"):
        adapter_on(stranger, base.base_digest)
    for name in ("base:own@1", "base:missing@1"):
        with refused("MODEL_NOT_FOUND"):
            stranger.resolve(name)
    assert stranger.resolve("base:own").version == ""
    with refused("VERSION_NOT_FOUND"):
        stranger.api.GetVersion(pb.GetVersionRequest(version=base.version))


def test_a_base_name_means_what_prod_serves_else_the_newest(stack: Stack, user: User):
    first, second = publish_full(user, made=TinyModel(seed=1)), publish_full(user, made=TinyModel(seed=2))
    found = user.resolve("base:own")
    assert (found.version, found.number, found.kind, found.is_base) == (second.version, 2, FULL, False)
    assert found.base_digest == second.base_digest
    assert user.resolve("base:own@1").version == first.version
    assert user.resolve(f"base:own@{first.version}").version == first.version
    user.point("own", first.version)
    assert user.resolve("base:own").version == second.version
    stack.service().report("g1", user.tenant, first.version, "READY")
    assert user.resolve("base:own").version == first.version
    assert user.resolve("base:own@prod").version == first.version


def test_an_adapter_names_the_full_model_that_it_is_tied_to_and_a_digest_is_a_base_name_too(stack: Stack, user: User):
    base = publish_full(user)
    adapter = adapter_on(user, base.base_digest)
    found = user.api.GetVersion(pb.GetVersionRequest(version=adapter.version)).version
    assert found.base_version == base.version
    assert user.api.GetVersion(pb.GetVersionRequest(version=base.version)).version.base_version == ""
    assert user.resolve(f"base:{base.base_digest}").version == base.version
    assert stack.newcomer().resolve(f"base:{base.base_digest}").version == ""


def test_only_a_full_model_is_a_base(user: User):
    user.publish("desk")
    for name in ("base:desk", "base:desk@1"):
        with refused("FIELD_INVALID"):
            user.resolve(name)
    with refused("VERSION_NOT_FOUND"):
        user.resolve("base:desk@7")


def test_it_stays_while_an_adapter_is_tied_to_it(user: User):
    base = publish_full(user)
    adapter = adapter_on(user, base.base_digest)
    with refused("VERSION_IN_USE") as failures:
        user.api.DeleteVersion(pb.DeleteVersionRequest(model="own", version="1"))
    assert "desk@1" in failures[0].message
    with refused("MODEL_IN_USE"):
        user.api.DeleteModel(pb.DeleteModelRequest(model="own"))
    again = publish_full(user, "copy")
    assert again.base_digest == base.base_digest
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="own", version="1"))
    with refused("VERSION_IN_USE"):
        user.api.DeleteVersion(pb.DeleteVersionRequest(model="copy", version="1"))
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="desk", version=adapter.version))
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="copy", version="1"))


def test_an_adapter_that_can_be_restored_keeps_its_base_and_comes_back_after_it(user: User):
    base = publish_full(user)
    adapter = adapter_on(user, base.base_digest)
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="desk", version=adapter.version))
    with refused("VERSION_IN_USE") as failures:
        user.api.DeleteVersion(pb.DeleteVersionRequest(model="own", version="1", purge=True))
    assert not missing(failures[0].variables["user"], "desk@1", "deleted")
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="own", version="1"))
    with refused("PARENT_DELETED") as failures:
        user.api.RestoreVersion(pb.RestoreVersionRequest(model="desk", version=adapter.version))
    assert "own@1" in failures[0].message
    with refused("BASE_MISMATCH"):
        adapter_on(user, base.base_digest, salt=3.0)
    user.api.RestoreVersion(pb.RestoreVersionRequest(model="own", version="1"))
    user.api.RestoreVersion(pb.RestoreVersionRequest(model="desk", version=adapter.version))
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="desk", version=adapter.version, purge=True))
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="own", version="1", purge=True))
