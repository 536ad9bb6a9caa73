"""The SDK and the command line bring encoders in and out, whole and the same, and say what each makes."""

import json
from pathlib import Path

import pytest
from trivium_client import Trivium
from trivium_client.errors import InvalidRequestError

from tests.contract.registry.test_full_models_client import client, command, key, opened, own
from tests.encoder_files import EncoderFiles
from tests.harness.wording import missing
from tests.stack import Stack

__all__ = ["client", "key", "opened", "own"]
RERANKER = "BertForSequenceClassification"


def written(folder: Path, made: EncoderFiles, **more: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in made.files().items():
        (folder / name).write_bytes(content)
    for name, text in more.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_a_folder_of_sentence_transformers_goes_in_flat_and_comes_out_the_same(client: Trivium, tmp_path: Path):
    made = EncoderFiles()
    modules = [{"type": "a.Transformer"}, {"type": "b.Pooling", "path": "1_Pooling"}, {"type": "c.Normalize"}]
    folder = written(
        tmp_path / "in", made, modules_json=json.dumps(modules), pooling="", README="stays",
        **{"1_Pooling__config_json": '{"pooling_mode": "mean"}'},
    )  # fmt: skip
    version = client.models.add_folder("finder", folder)
    assert (version.kind, version.role, version.rank) == ("encoder", "embedder", 0)
    client.models.download(version.version, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == made.files()
    alias = client.models.set_alias("finder", "1")
    assert (alias.state, alias.kind, alias.serving_version) == ("serving", "encoder", version.version)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"1_Pooling__config_json": '{"pooling_mode_cls_token": true}'}, r"1_Pooling/config\.json.* mean"),
        ({"1_Pooling__config_json": '{"pooling_mode": "lasttoken"}'}, r"1_Pooling/config\.json.* mean"),
        (
            {"1_Pooling__config_json": '{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}'},
            r"1_Pooling/config\.json.* mean",
        ),
        ({"modules_json": '[{"type": "a.Pooling", "path": "1_Pooling"}]'}, r"1_Pooling/config\.json.* mean"),
        ({"modules_json": '[{"type": "a.Pooling", "path": "elsewhere"}]'}, r"modules\.json.* 1_Pooling"),
        ({"modules_json": '[{"type": "a.Dense", "path": "2_Dense"}]'}, r"modules\.json.* Dense"),
        ({"modules_json": "{"}, r"modules\.json.* list"),
        ({"config_sentence_transformers_json": '{"prompts": {"query": "query: "}}'}, "prompts"),
    ],
)  # fmt: skip
def test_an_encoder_that_the_embedder_would_compute_otherwise_is_refused_here(
    client: Trivium, tmp_path: Path, more: dict[str, str], named: str
):
    with pytest.raises(ValueError, match=named):
        client.models.add_folder("finder", written(tmp_path / "in", EncoderFiles(), **more))


def test_a_hostile_encoder_is_refused_there(client: Trivium, tmp_path: Path):
    two = written(tmp_path / "in", EncoderFiles(RERANKER, changes={"id2label": {"0": "a", "1": "b"}}))
    with pytest.raises(InvalidRequestError, match="num_labels=1") as refused:
        client.models.add_folder("judge", two)
    assert refused.value.reason == "WEIGHTS_REFUSED"


def test_the_command_line_imports_shows_finds_and_exports_encoders(own: Stack, key: str, tmp_path: Path):
    made = EncoderFiles(RERANKER)
    imported = command(own, key, "import", str(written(tmp_path / "in", made)), "--name", "judge")
    assert not missing(imported.out, "judge@1"), imported.err
    assert "sha256:" in imported.out
    assert not missing(imported.out, "encoder", "reranker")
    assert "trivium docs settings COLLECTION --rerank --rerank-model judge@1" in imported.err
    vectors = command(own, key, "import", str(written(tmp_path / "vectors", EncoderFiles())), "--name", "finds")
    assert "trivium docs reembed COLLECTION finds@1" in vectors.err
    assert "sha256:" in vectors.out
    moved = command(own, key, "alias", "judge", "1", "--json")
    assert moved.json["state"] == "serving", moved.err
    for shown in (command(own, key, "show", "judge"), command(own, key, "search", "--kind", "encoder")):
        assert all(word in shown.out for word in ("role", "encoder", "reranker")), shown.out + shown.err
    assert command(own, key, "export", "judge@1", str(tmp_path / "out")).code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == made.files()
