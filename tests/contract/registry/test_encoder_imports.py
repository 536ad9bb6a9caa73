"""The registry imports encoders as it does full models, told apart by their configuration, and none that pools otherwise."""

import json

import pytest
from trivium.registry.v1 import model_pb2

from tests.contract.registry.test_imports import Importer, importer
from tests.encoder_files import EncoderFiles
from tests.harness.wording import missing
from tests.hub import COMMIT
from tests.stack import refused
from tests.tiny_model import TinyModel

__all__ = ["importer"]
MODULES = [{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "1_Pooling"}, {"type": "a.Normalize"}]


def saved(made: EncoderFiles, pooling: str = "mean", **more: object) -> dict[str, bytes]:
    """The files of a folder as sentence-transformers saves it, by their paths in it."""
    beside = {"modules.json": MODULES, "1_Pooling/config.json": {"pooling_mode": pooling}, **more}
    return {**made.files(), "README.md": b"about", **{name: json.dumps(told).encode() for name, told in beside.items()}}


def written(importer: Importer, name: str, files: dict[str, bytes]) -> str:
    for path, content in files.items():
        target = importer.opened / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return f"file:{{opened}}/{name}"


def test_a_folder_and_a_repository_of_an_encoder_become_the_same_encoder(importer: Importer):
    made = EncoderFiles(seed=5)
    caller = importer.user()
    version = caller.imported(written(importer, "finder", saved(made)), "finder")
    assert (version.kind, version.encoder_role) == (model_pb2.VERSION_KIND_ENCODER, model_pb2.ENCODER_ROLE_EMBEDDER)
    assert {file.filename for file in version.files} == set(made.files())
    importer.hub.repositories["org/finder"] = saved(made)
    fetched = caller.imported("hf:org/finder", "finder")
    assert fetched.lineage.base_uri == f"hf:org/finder@{COMMIT}"
    assert (fetched.base_digest, fetched.number) == (version.base_digest, 2)


def test_a_reranker_says_so(importer: Importer):
    made = EncoderFiles("XLMRobertaForSequenceClassification")
    version = importer.user().imported(written(importer, "judge", {**made.files(), "modules.json": b"[]"}), "judge")
    assert version.encoder_role == model_pb2.ENCODER_ROLE_RERANKER


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"pooling": "cls"}, "does not pool by the mean"),
        ({"modules.json": [*MODULES, {"type": "a.Dense", "path": "2_Dense"}]}, "names Dense"),
        ({"config_sentence_transformers.json": {"prompts": {"query": "query: "}}}, "puts words before texts"),
    ],
)
def test_an_encoder_that_the_embedder_would_compute_otherwise_is_refused(
    importer: Importer, more: dict[str, object], why: str
):
    files = saved(EncoderFiles(), **more)  # type: ignore[arg-type]  # pooling is text, the rest JSON
    importer.hub.repositories["org/other"] = files
    importer.hub.asked.clear()
    for uri in (written(importer, f"other-{why.rpartition(' ')[2]}", files), "hf:org/other"):
        with refused("WEIGHTS_REFUSED") as failures:
            importer.user().imported(uri, "finder")
        assert why in failures[0].message


def test_a_full_model_stays_one_whatever_lies_beside_it(importer: Importer):
    files = {**TinyModel(seed=8).files(), "sentence_bert_config.json": b"{}", "modules.json": b'[{"type": "a.Dense"}]'}
    version = importer.user().imported(written(importer, "answers", files))
    assert version.kind == model_pb2.VERSION_KIND_FULL
    assert {file.filename for file in version.files} == set(TinyModel().files())


def test_what_describes_an_encoder_is_read_from_no_other_folder(importer: Importer):
    uri = written(importer, "linked", EncoderFiles().files())
    (importer.opened / "linked" / "modules.json").symlink_to("/etc/hostname")
    with refused("MODEL_SOURCE_INVALID") as failures:
        importer.user().imported(uri, "finder")
    assert not missing(failures[0].message, "modules.json")
