"""Promise 3: whatever one tenant tries, another's objects look like none at all."""

import random
import uuid

import grpc
import pytest
from trivium.access.v1 import access_pb2
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.adapters import Adapter, digest
from tests.harness.plugin_sampling import sample
from tests.stack import Stack, User, download, refused

REQUESTS = (
    lambda model, version, sha256: ("GetModel", pb.GetModelRequest(model=model)),
    lambda model, version, sha256: ("UpdateModel", pb.UpdateModelRequest(model=model, description="mine")),
    lambda model, version, sha256: ("DeleteModel", pb.DeleteModelRequest(model=model)),
    lambda model, version, sha256: ("GetVersion", pb.GetVersionRequest(version=version)),
    lambda model, version, sha256: ("GetVersion", pb.GetVersionRequest(model=model, version=version)),
    lambda model, version, sha256: ("GetVersion", pb.GetVersionRequest(model=model, version="1")),
    lambda model, version, sha256: ("ListVersions", pb.ListVersionsRequest(model=model)),
    lambda model, version, sha256: ("DeleteVersion", pb.DeleteVersionRequest(model=model, version=version)),
    lambda model, version, sha256: ("GetLineage", pb.GetLineageRequest(version=version)),
    lambda model, version, sha256: ("GetAlias", pb.GetAliasRequest(model=model, alias="prod")),
    lambda model, version, sha256: ("DeleteAlias", pb.DeleteAliasRequest(model=model, alias="prod")),
    lambda model, version, sha256: ("ListAliasMoves", pb.ListAliasMovesRequest(model=model, alias="prod")),
    lambda model, version, sha256: ("SetAlias", pb.SetAliasRequest(model=model, alias="a", target_version=version)),
    lambda model, version, sha256: ("RestoreModel", pb.RestoreModelRequest(model=model)),
    lambda model, version, sha256: ("DeleteModel", pb.DeleteModelRequest(model=model, purge=True, force=True)),
    lambda model, version, sha256: ("RestoreVersion", pb.RestoreVersionRequest(version=version)),
    lambda model, version, sha256: ("RestoreVersion", pb.RestoreVersionRequest(model=model, version="1")),
    lambda model, version, sha256: ("DeleteVersion", pb.DeleteVersionRequest(model=model, version="1", purge=True)),
    lambda model, version, sha256: ("TagVersion", pb.TagVersionRequest(version=version, add=["mine"])),
    lambda model, version, sha256: (
        "RecordEvaluation",
        pb.RecordEvaluationRequest(version=version, evaluation=model_pb2.Evaluation(metric="m", value=1)),
    ),
    lambda model, version, sha256: (
        "SetCanary",
        pb.SetCanaryRequest(model=model, alias="prod", version=version, percent=1),
    ),
    lambda model, version, sha256: (
        "CreateGate",
        pb.CreateGateRequest(model=model, gate=pb.Gate(gate="g", metric="m")),
    ),
    lambda model, version, sha256: ("ListModelChanges", pb.ListModelChangesRequest(model=model)),
    lambda model, version, sha256: ("ListGates", pb.ListGatesRequest(model=model)),
    lambda model, version, sha256: ("DeleteGate", pb.DeleteGateRequest(model=model, gate="g")),
    lambda model, version, sha256: ("ResolveModel", pb.ResolveModelRequest(name=model)),
    lambda model, version, sha256: ("ResolveModel", pb.ResolveModelRequest(name=f"{model}@{version}")),
    lambda model, version, sha256: ("DownloadBlob", pb.DownloadBlobRequest(sha256=sha256)),
    lambda model, version, sha256: ("DownloadBlob", pb.DownloadBlobRequest(sha256=sha256, offset_bytes=1 << 40)),
)


def answer(user: User, rpc: str, request) -> tuple[str, str, dict[str, str]]:
    """The failure of a call, whole: reason, sentence and variables without ids of the call itself."""
    with pytest.raises(grpc.RpcError) as caught:
        list(getattr(user.api, rpc)(request))
    failure = from_rpc_error(caught.value)
    return failure.reason, failure.message, {k: v for k, v in failure.variables.items() if k != "correlation_id"}


@pytest.fixture(scope="module")
def victim(stack: Stack) -> tuple[User, model_pb2.Version]:
    """A tenant with a version that serves."""
    user = stack.newcomer()
    version = user.publish(f"secret-{uuid.uuid4().hex[:8]}", Adapter(salt=random.random()).files())
    stack.service().report("g1", user.tenant, version.version, "READY")
    user.point(version.model, version.version)
    return user, version


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_a_foreign_object_and_a_missing_one_get_the_same_answer(victim, user: User, number: int):
    _, version = victim
    missing = (f"secret-{uuid.uuid4().hex[:8]}", f"sha256:{uuid.uuid4().hex * 2}", uuid.uuid4().hex * 2)
    foreign = (version.model, version.version, version.files[0].sha256)
    answers = []
    for names in (foreign, missing):
        reason, message, variables = answer(user, *REQUESTS[number](*names))
        for name in names:
            message = message.replace(name, "NAME")
            variables = {key: value.replace(name, "NAME") for key, value in variables.items()}
        answers.append((reason, message, variables))
    assert answers[0] == answers[1]


def test_lists_and_watches_show_the_own_tenant_alone(victim, user: User):
    user.publish("mine")
    assert [model.model for model in user.api.ListModels(pb.ListModelsRequest()).models] == ["mine"]
    assert not user.api.ListAliases(pb.ListAliasesRequest()).aliases
    events = user.events_so_far()
    assert [(event.sequence, event.tenant) for event in events] == [(1, user.tenant)]


def test_knowing_a_digest_is_no_right_to_use_it(victim, user: User):
    owner, version = victim
    with refused("BLOB_MISSING"):
        user.create(
            model_pb2.Version(model="stolen", kind=version.kind, base_digest=version.base_digest, files=version.files)
        )
    for file in version.files:
        assert download(owner.api, file.sha256)
        with refused("BLOB_NOT_FOUND"):
            download(user.api, file.sha256)


def test_an_upload_does_not_tell_whether_somebody_else_has_the_bytes(victim, stack: Stack, user: User):
    owner, version = victim
    content = download(owner.api, version.files[0].sha256)
    before = user.api.GetUpload(pb.GetUploadRequest(sha256=digest(content))).status
    assert (before.committed_bytes, before.complete) == (0, False)
    # Without the bytes it is not complete, whoever has them.
    with refused("SIZE_MISMATCH"):
        user.upload(version.files[0].filename, content, until=0)
    # An upload that another tenant left half-way is no place to resume from.
    half = random.randbytes(2 << 20)
    with refused("SIZE_MISMATCH"):
        stack.newcomer().upload("a.safetensors", half, until=1 << 20)
    with refused("CHUNK_OFFSET_WRONG"):
        user.upload("a.safetensors", half, resume=1 << 20)
    assert user.upload(version.files[0].filename, content).complete


def test_deleting_ones_own_copy_leaves_the_others(stack: Stack):
    files = Adapter(salt=random.random()).files()
    one, two = stack.newcomer(), stack.newcomer()
    for user in (one, two):
        user.publish("m", files)
    one.api.DeleteModel(pb.DeleteModelRequest(model="m"))
    for content in files.values():
        assert download(two.api, digest(content)) == content


def test_a_page_token_of_another_tenant_is_refused(stack: Stack):
    one, two = stack.newcomer(), stack.newcomer()
    for user in (one, two):
        for model in ("a", "b"):
            user.api.CreateModel(pb.CreateModelRequest(model=model))
    token = one.api.ListModels(pb.ListModelsRequest(page_size=1)).next_page_token
    with refused("PAGE_TOKEN_INVALID"):
        two.api.ListModels(pb.ListModelsRequest(page_size=1, page_token=token))


def test_a_request_id_of_another_tenant_replays_nothing(stack: Stack):
    request = pb.CreateModelRequest(model="m", request_id=str(uuid.uuid4()))
    one, two = stack.newcomer(), stack.newcomer()
    names = {user.api.CreateModel(request).model.name for user in (one, two)}
    assert names == {f"tenants/{one.tenant}/models/m", f"tenants/{two.tenant}/models/m"}


def test_guessing_reads_nothing(victim, user: User):
    _, version = victim
    source = random.Random(20261125)
    bare = version.version.removeprefix("sha256:")
    guesses = [bare[:length] for length in range(1, 65, 3)] + [bare.upper(), f"sha256:{bare}"]
    drawn = [f"{source.randrange(1 << 256):064x}" for _ in range(150)]
    guesses += sample(drawn, every=5) + [str(number) for number in range(1, 20)]
    for guess in guesses:
        for model in ("", version.model, f"{user.tenant}/{version.model}", f"../{version.model}"):
            reason, _, _ = answer(user, "GetVersion", pb.GetVersionRequest(model=model, version=guess))
            assert reason in {"MODEL_NOT_FOUND", "VERSION_NOT_FOUND", "FIELD_INVALID"}


def test_a_reader_changes_nothing(stack: Stack):
    tenant = stack.tenant()
    writer = User(stack.registry_api(stack.tenant_key(tenant)), tenant)
    reader = User(stack.registry_api(stack.tenant_key(tenant, access_pb2.ROLE_READER)), tenant)
    version = writer.publish("m")
    assert reader.resolve("m@1").version == version.version
    assert download(reader.api, version.files[0].sha256)
    for act in (
        lambda: reader.api.CreateModel(pb.CreateModelRequest(model="n")),
        lambda: reader.upload("a.json", b"{}"),
        lambda: reader.create(version),
        lambda: reader.point("m", "1"),
        lambda: reader.api.DeleteModel(pb.DeleteModelRequest(model="m")),
    ):
        with refused("ROLE_MISSING"):
            act()


def test_without_a_credential_nothing_is_answered(stack: Stack):
    for credential, reason in (
        ("", "CREDENTIAL_MISSING"),
        ("x", "CREDENTIAL_INVALID"),
        ("a.b.c", "CREDENTIAL_INVALID"),
    ):
        with refused(reason):
            stack.registry_api(credential).ListModels(pb.ListModelsRequest())
