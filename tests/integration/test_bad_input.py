"""Bad input, as people really give it: each gets an error that names what was wrong and what to do; nothing is lost."""

import json
import struct
import uuid
from pathlib import Path

import pytest
from trivium_client import InvalidRequestError, NotFoundError, PreconditionError, Trivium, TriviumError

from services.ops.supervisor import Suite
from tests.integration.command_line import trivium

A_DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def client(suite: Suite) -> Trivium:
    return suite.client()


def fresh(noun: str) -> str:
    return f"{noun}-{uuid.uuid4().hex[:8]}"


def test_a_document_that_is_not_text_is_refused_and_the_others_are_kept(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("# Good\n\nThis one is text.\n")
    (tmp_path / "picture.md").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe")
    added = trivium(suite, "docs", "add", str(tmp_path), "-c", fresh("mixed"), "--json")
    assert added.code == 4
    assert "picture.md" in added.err
    assert [document["document"] for document in added.json] == ["good.md"]


def test_a_document_over_the_limit_is_refused_with_the_limit(client: Trivium, tmp_path: Path) -> None:
    collection = fresh("large")
    client.collections.create(collection)
    large = tmp_path / "large.md"
    large.write_text("word " * (11 * 1024 * 1024 // 5))
    with pytest.raises(TriviumError) as refused:
        client.docs.add(large, collection=collection)
    assert refused.value.reason == "DOCUMENT_TOO_LARGE"
    assert list(client.docs.list(collection)) == []


def test_an_empty_question_is_refused(client: Trivium) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.answer("   ")
    assert refused.value.reason == "QUESTION_EMPTY"


def test_an_unknown_model_is_answered_with_the_nearest_name(client: Trivium) -> None:
    with pytest.raises(NotFoundError) as unknown:
        client.answer("Hello?", model="bsae")
    assert unknown.value.reason == "MODEL_NOT_FOUND"
    assert "base" in unknown.value.message


def test_a_malformed_training_file_is_refused_with_its_line_numbers(client: Trivium, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    good = json.dumps({"prompt": "a", "completion": "b"})
    rows.write_text(f'{good}\n{{"prompt": "a", \n{good}\n{{"prompt": "no completion"}}\n')
    with pytest.raises(InvalidRequestError) as refused:
        client.data.upload(rows, name=fresh("rows"))
    assert refused.value.reason == "DATASET_MALFORMED"
    said = refused.value.message + " ".join(f"{item.field} {item.description}" for item in refused.value.violations)
    assert "2" in said
    assert "4" in said


def adapter_folder(folder: Path, weights: bytes, base: str = "") -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def safetensors(layer: str = "base_model.model.model.layers.0.self_attn.q_proj") -> bytes:
    """A well-formed adapter of rank 8 for one projection of the default base, all zeros."""
    header = {
        f"{layer}.lora_A.weight": {"dtype": "F32", "shape": [8, 576], "data_offsets": [0, 8 * 576 * 4]},
        f"{layer}.lora_B.weight": {
            "dtype": "F32",
            "shape": [576, 8],
            "data_offsets": [8 * 576 * 4, 2 * 8 * 576 * 4],
        },
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(2 * 8 * 576 * 4)


def test_a_pickle_in_place_of_safetensors_is_refused(client: Trivium, tmp_path: Path) -> None:
    pickled = b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."
    folder = adapter_folder(tmp_path / "adapter", pickled)
    model = fresh("pickled")
    (engine,) = client.models.engines()
    with pytest.raises(TriviumError) as refused:
        client.models.add_version(model, folder, base_digest=engine.base_digest)
    assert refused.value.reason == "WEIGHTS_REFUSED"
    assert "pickle" in refused.value.message.lower()
    assert model not in {found.model for found in client.models.list()}


def test_an_adapter_for_another_base_is_refused(client: Trivium, tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "adapter", safetensors())
    with pytest.raises(PreconditionError) as refused:
        client.models.add_version(fresh("foreign"), folder, base_digest=A_DIGEST)
    assert refused.value.reason == "BASE_MISMATCH"


def test_a_good_adapter_of_ones_own_is_accepted_and_served(client: Trivium, tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "adapter", safetensors())
    (engine,) = client.models.engines()
    model = fresh("own")
    version = client.models.add_version(model, folder, base_digest=engine.base_digest)
    client.models.set_alias(model, version.version)
    assert client.models.wait_alias(model).serving_version == version.version
    (after,) = client.models.engines()
    assert after.start_time == engine.start_time, "a swap restarted the engine"


def test_bytes_that_do_not_match_their_digest_are_not_kept(client: Trivium) -> None:
    with pytest.raises(NotFoundError):
        client.models.version(A_DIGEST)
