"""The SDK and the command line bring full models in and out, whole and the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from trivium_client import Trivium
from trivium_client.errors import InvalidRequestError, RequestTimeoutError

from tests.adapters import Adapter
from tests.harness.command_line import Ran, run_in_process
from tests.stack import Stack
from tests.tiny_model import TinyModel


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the registry imports from."""
    folder = tmp_path_factory.mktemp("opened")
    TinyModel(seed=4).write(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def own(opened: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A registry whose long work takes several calls."""
    environment = {"TRIVIUM_REGISTRY_PATIENCE_SECONDS": "0.05", "TRIVIUM_REGISTRY_IMPORT_FOLDERS": str(opened)}
    stack = Stack(tmp_path_factory.mktemp("client"), environment)
    yield stack
    stack.close()


@pytest.fixture
def key(own: Stack) -> str:
    return own.tenant_key(own.tenant())


@pytest.fixture
def client(own: Stack, key: str) -> Iterator[Trivium]:
    with Trivium(api_key=key, addresses={"registry": own.registry.address}) as made:
        yield made


def command(own: Stack, key: str, *arguments: str) -> Ran:
    """Run `trivium models …`."""
    known = {"TRIVIUM_API_KEY": key, "TRIVIUM_REGISTRY_ADDRESS": own.registry.address}
    return run_in_process("models", *arguments, environment=known)


def test_a_folder_goes_in_and_comes_out_the_same(client: Trivium, tmp_path: Path):
    model = TinyModel(seed=5, shards=2)
    folder = model.write(tmp_path / "in")
    (folder / "README.md").write_text("stays")
    heard: list[tuple[int, int]] = []
    version = client.models.add_folder("own", folder, progress=lambda there, whole: heard.append((there, whole)))
    assert (version.kind, version.base_digest) == ("full", model.digest())
    whole = sum(map(len, model.files().values()))
    assert heard[-1] == (whole, whole)
    assert [there for there, _ in heard] == sorted(there for there, _ in heard)
    client.models.download(version.version, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == model.files()


def test_a_folder_that_is_neither_is_refused_here_and_a_hostile_one_there(client: Trivium, tmp_path: Path):
    with pytest.raises(ValueError, match=r"adapter_config\.json.* config\.json"):
        client.models.add_folder("own", tmp_path)
    hostile = TinyModel(changes={"auto_map": {"AutoModel": "x.Y"}}).write(tmp_path / "hostile")
    with pytest.raises(InvalidRequestError, match="auto_map") as refused:
        client.models.add_folder("own", hostile)
    assert refused.value.reason == "WEIGHTS_REFUSED"


def test_the_registry_imports_for_the_client_and_says_how_far_it_is(opened: Path, client: Trivium):
    heard: list[str] = []
    version = client.models.import_model(f"file:{opened}/tiny", "own", said=heard.append)
    assert heard
    assert all(heard)
    assert version.base_uri == f"file:{opened}/tiny"
    assert client.models.base_digest("base:own") == version.base_digest


def test_an_import_that_is_not_waited_for_to_its_end_goes_on_and_the_same_asked_again_has_it(
    opened: Path, client: Trivium
):
    TinyModel(seed=8).write(opened / "later")
    with pytest.raises(RequestTimeoutError, match="/later"):
        client.models.import_model(f"file:{opened}/later", "own", timeout_seconds=0.001)
    assert client.models.import_model(f"file:{opened}/later", "own").number == 1


def test_the_command_line_imports_a_model_and_an_adapter_merges_and_exports_them(own: Stack, key: str, tmp_path: Path):
    model = TinyModel(seed=6)
    imported = command(own, key, "import", str(model.write(tmp_path / "in")), "--name", "own", "--json")
    assert imported.code == 0, imported.err
    assert imported.json["base_digest"] == model.digest()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name, content in Adapter(inputs=64, outputs=64).files().items():
        (adapter / name).write_bytes(content)
    tied = command(own, key, "import", str(adapter), "--name", "desk", "--base", "base:own@1", "--json")
    assert tied.json["base_digest"] == model.digest(), tied.err
    assert command(own, key, "export", "own@1", str(tmp_path / "out")).code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == model.files()
    merged = command(own, key, "merge", "desk@1", "--into", "desk-full", "--json")
    full = merged.json
    assert (full["kind"], full["model"]) == ("full", "desk-full"), merged.err
    assert command(own, key, "export", "desk-full@1", str(tmp_path / "full")).code == 0
    assert {path.name for path in (tmp_path / "full").iterdir()} == set(model.files())
    assert (tmp_path / "full" / "tokenizer.json").read_bytes() == model.files()["tokenizer.json"]
    assert (tmp_path / "full" / "model.safetensors").read_bytes() != model.files()["model.safetensors"]
    again = command(own, key, "import", "own", str(tmp_path / "out"), "--json")
    assert again.json["number"] == 1
    for wrong in (["import", str(adapter)], ["import", "hf:no", "--name", "x"], ["import", "nowhere", "--name", "x"]):
        refused = command(own, key, *wrong)
        assert refused.code != 0
        assert "Traceback" not in refused.err
