"""What a solo job makes is what the registry takes and what later jobs begin with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.registry.inspection.child import judge
from services.trainer import checkpoints
from services.trainer.settings import Initialisation, Method, Objective
from services.trainer.solo.order import Stepped
from services.trainer.solo.saving import save_full
from tests.unit.trainer.solo.small_jobs import Job, with_settings
from tests.unit.trainer.solo.test_learning import weights_of


def judged(folder: Path, kind: str, base: Path) -> dict[str, object]:
    files = {path.name: str(path) for path in folder.iterdir()}
    task = {"kind": kind, "files": files}
    return judge({**task, "base_config": str(base / "config.json")} if kind == "LORA" else task)


def test_a_full_model_is_what_the_registry_takes_in_the_dtype_of_its_base(tmp_path: Path, base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    job = Job(tmp_path / "job", base)
    job.finish()
    folder = job.weights.parent
    assert judged(folder, "FULL", base)["fit"] is True
    saved = load_file(job.weights)
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert set(saved) == set(load_file(base / "model.safetensors"))
    for name, value in weights_of(job).items():
        assert torch.equal(saved[name], value.to(torch.bfloat16)), name
    assert (folder / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert AutoTokenizer.from_pretrained(str(folder)).chat_template
    assert AutoModelForCausalLM.from_pretrained(str(folder)).dtype is torch.bfloat16


def test_large_weights_are_divided_over_files_with_an_index(tmp_path: Path, base: Path) -> None:
    from transformers import AutoModelForCausalLM

    weights = load_file(base / "model.safetensors")
    save_full(weights, base, tmp_path, torch.bfloat16, max_file_bytes=8_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert judged(tmp_path, "FULL", base)["fit"] is True
    read = AutoModelForCausalLM.from_pretrained(str(tmp_path)).state_dict()
    assert all(torch.equal(read[name], value) for name, value in weights.items())


def test_full_fine_tuning_goes_on_from_an_earlier_full_model(tmp_path: Path, base: Path) -> None:
    first = Job(tmp_path / "first", base)
    first.finish()
    second = Job(tmp_path / "second", first.weights.parent)
    second.finish()
    assert second.said(Stepped)[0].progress.loss < first.said(Stepped)[0].progress.loss


@pytest.mark.parametrize("method", [Method.DORA, Method.QLORA])
def test_an_adapter_has_all_that_was_ordered_and_is_what_the_registry_takes(
    tmp_path: Path, base: Path, method: Method
) -> None:
    settings = with_settings(
        method=method,
        target_modules=("q_proj", "v_proj", "down_proj"),
        exclude_modules=("v_proj",),
        layers=(1,),
        rank_pattern=(("down_proj", 2),),
        alpha_pattern=(("down_proj", 6.0),),
        initialisation=Initialisation.ORTHOGONAL,
        max_steps=1,
    )
    job = Job(tmp_path / "job", base, settings)
    job.finish()
    verdict = judged(job.weights.parent, "LORA", base)
    assert verdict["fit"] is True
    # An engine serves what QLoRA makes as any other adapter; DoRA's magnitudes none.
    assert bool(verdict["unservable"]) is (method is Method.DORA)
    tensors = load_file(job.weights)
    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())
    ranks = {name.split("layers.")[1]: len(value) for name, value in tensors.items() if "lora_A" in name}
    assert ranks == {"1.self_attn.q_proj.lora_A.weight": 4, "1.mlp.down_proj.lora_A.weight": 2}
    assert any("magnitude" in name for name in tensors) is (method is Method.DORA)


def test_a_base_in_four_bits_is_smaller_and_its_adapter_still_fp32(tmp_path: Path, base: Path) -> None:
    from bitsandbytes.nn.modules import Linear4bit

    from services.trainer.solo import models

    model = models.load(base, with_settings(method=Method.QLORA))
    linear = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(linear) == 14
    assert all(module.weight.dtype is torch.uint8 for module in linear)
    assert all(value.dtype is torch.float32 for value in models.trained(model).values())
    # Its trained parameters stay so: TRL rounds them to bf16 when it is set up.
    job = Job(tmp_path / "job", base, with_settings(method=Method.QLORA, max_steps=2))
    job.finish()
    learned = [value for name, value in weights_of(job).items() if "lora_B" in name]
    assert not any(value.to(torch.bfloat16).float().equal(value) for value in learned)


@pytest.mark.parametrize("objective", [Objective.SUPERVISED, Objective.DPO])
def test_an_adapter_goes_on_from_an_earlier_one(tmp_path: Path, base: Path, objective: Objective) -> None:
    first = Job(tmp_path / "first", base, with_settings(method=Method.DORA, learning_rate=1e-2))
    first.finish()
    settings = with_settings(method=Method.DORA, objective=objective)
    second = Job(tmp_path / "second", base, settings, start=first.weights.parent)
    second.finish()
    begun = second.said(Stepped)[0].progress.loss
    if objective is Objective.DPO:
        # The reference is the model with the earlier adapter, not the bare base.
        assert begun == pytest.approx(0.6931, abs=1e-3)
    else:
        assert begun < first.said(Stepped)[0].progress.loss - 0.01


def test_an_earlier_adapter_of_another_shape_is_refused_in_words(tmp_path: Path, base: Path) -> None:
    first = Job(tmp_path / "first", base, with_settings(method=Method.DORA, max_steps=1))
    first.finish()
    start = first.weights.parent
    for changes, words in (({"rank": 2}, r"\b4\b.*\b2\b"), ({"layers": (1,)}, r"\blayers\b")):
        other = Job(tmp_path / next(iter(changes)), base, with_settings(method=Method.DORA, **changes), start=start)
        with pytest.raises(ValueError, match=words):
            other.train()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_modules": ("query",)}, r"\bquery\b"),
        ({"exclude_modules": ("query",)}, r"\bquery\b"),
        ({"layers": (0, 9)}, r"\blayer 9\b"),
        ({"rank_pattern": (("query", 2),)}, r"\bquery\b"),
        ({"alpha_pattern": (("query", 2.0),)}, r"\bquery\b"),
    ],
)
def test_what_the_base_lacks_is_refused_by_name(
    tmp_path: Path, base: Path, changes: dict[str, Any], words: str
) -> None:
    job = Job(tmp_path / "job", base, with_settings(method=Method.DORA, **changes))
    with pytest.raises(ValueError, match=words):
        job.train()


def test_a_disk_that_is_full_ends_a_job_whose_last_checkpoint_stands(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.chassis.errors import Failure, Reason

    calm = Job(tmp_path / "calm", base, with_settings(checkpoint_steps=1))
    whole = calm.finish()
    job = Job(tmp_path / "job", base, calm.settings)

    def require_space(folder: Path, size_bytes: int, what: str) -> None:
        if checkpoints.newest(job.order.kept) is not None:
            raise Failure(Reason.DISK_FULL, what=what)

    with monkeypatch.context() as full:
        full.setattr(checkpoints, "require_space", require_space)
        with pytest.raises(Failure) as failure:
            job.train()
    assert failure.value.reason is Reason.DISK_FULL
    assert [found.progress.step for found in checkpoints.kept(job.order.kept)] == [1]
    assert len(list(job.order.kept.iterdir())) == 1
    assert job.finish() == whole
