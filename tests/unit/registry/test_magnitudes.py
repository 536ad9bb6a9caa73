"""No adapter that is taken makes answers infinite by the size of its numbers, and none that was trained is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from services.registry.inspection import Unfit
from services.registry.inspection.child import judge
from services.registry.inspection.magnitudes import exponent_above
from services.registry.inspection.tensors import ITEM_BYTES, Tensor
from tests.adapters import safetensors
from tests.tiny_model import TinyModel

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def stored(value: float, count: int, dtype: str) -> bytes:
    """So many equal numbers as a file holds them."""
    if dtype == "BF16":
        return (np.full(count, value, "<f4").view("<u4") >> np.uint32(16)).astype("<u2").tobytes()
    return np.full(count, value, "<f2" if dtype == "F16" else "<f4").tobytes()


def judged(
    folder: Path, down: float, up: float, dtype: str = "F32", rank: int = 2, **changes: Any
) -> dict[str, object]:
    """What is said of an adapter whose numbers are all of these sizes, but for one in each matrix that is small."""
    folder.mkdir(exist_ok=True)
    width = ITEM_BYTES[dtype]
    tensors = {
        f"{MODULE}.lora_A.weight": (dtype, [rank, 6], stored(0.001, 1, dtype) + stored(down, 6 * rank, dtype)[width:]),
        f"{MODULE}.lora_B.weight": (dtype, [4, rank], stored(-up, 4 * rank, dtype)),
    }
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"], **changes}
    files = {
        "adapter_model.safetensors": safetensors(tensors),
        "adapter_config.json": json.dumps(config).encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return judge({"kind": "LORA", "files": {name: str(folder / name) for name in files}})


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_numbers_out_of_all_proportion_are_refused_with_the_module_and_their_size(tmp_path: Path, dtype: str):
    with pytest.raises(Unfit, match=r"q_proj .*2\^1[67] in A"):
        judged(tmp_path, 60_000.0, 60_000.0, dtype)
    for down, up in ((60_000.0, 0.01), (0.001, 60_000.0), (0.0, 60_000.0), (60_000.0, 0.0), (0.25, 0.25)):
        assert judged(tmp_path, down, up, dtype)["fit"]


@pytest.mark.parametrize(
    ("down", "up", "changes"),
    [
        pytest.param(1e30, 0.0, {}, id="an input meets A alone first"),
        pytest.param(0.0, 3e38, {"lora_alpha": 1000}, id="B is scaled before anything is multiplied"),
        pytest.param(1.0, 1.0, {"lora_alpha": 999_999}, id="a scale counts like numbers"),
        pytest.param(1.0, 1.0, {"alpha_pattern": {"q_proj": 999_999}}, id="a module's own scale counts too"),
        pytest.param(300.0, 300.0, {"lora_alpha": 40, "use_rslora": True}, id="by the scale of rsLoRA"),
    ],
)
def test_each_way_to_infinity_is_closed(tmp_path: Path, down: float, up: float, changes: dict[str, Any]):
    with pytest.raises(Unfit, match=r"q_proj .*2\^-?\d+ in A and 2\^-?\d+ in B"):
        judged(tmp_path, down, up, **changes)


def test_an_alpha_that_is_none_is_refused(tmp_path: Path):
    for alpha in (0, -1, math.inf):
        with pytest.raises(Unfit, match=r"alpha_pattern.* 0"):
            judged(tmp_path, 1.0, 1.0, alpha_pattern={"q_proj": alpha})


def test_a_scale_of_next_to_nothing_is_no_error(tmp_path: Path):
    assert judged(tmp_path, 1.0, 1.0, lora_alpha=5e-324)["fit"]
    assert judged(tmp_path, 1.0, 1.0, lora_alpha=5e-324, use_rslora=True)["fit"]


def test_the_largest_that_training_could_make_are_taken(tmp_path: Path):
    assert judged(tmp_path, 0.99, 0.99, rank=512, lora_alpha=64 * 512)["fit"]
    assert judged(tmp_path, 30.0, 30.0, rank=16, lora_alpha=32)["fit"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(
    exponents=some.lists(some.integers(-13, 15), min_size=1, max_size=5),
    dtype=some.sampled_from(["F32", "BF16", "F16"]),
    exact=some.booleans(),
)
def test_a_size_is_above_every_number_and_not_far(tmp_path: Path, exponents: list[int], dtype: str, exact: bool):
    content = b"".join(stored(1.5 * 2.0**exponent, 1, dtype) for exponent in exponents)
    path = tmp_path / "numbers"
    path.write_bytes(content)
    with path.open("rb") as file:
        found = exponent_above(file, 0, Tensor("t", dtype, (len(exponents),), 0, len(content)), exact=exact)
    assert found > max(exponents)
    assert found <= max(max(exponents) + 2, -math.inf if exact else 3)


def answers(base: Path, down: float, up: float) -> npt.NDArray[Any]:
    """Logits in bfloat16 of a model whose every linear layer has an adapter of equal numbers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=2, task_type="CAUSAL_LM", target_modules=LINEAR))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.fill_(down if "lora_A" in name else up)
        found: npt.NDArray[Any] = adapted.eval()(torch.arange(12)[None]).logits.float().numpy()
    return found


def test_a_model_with_the_largest_that_are_taken_answers_in_numbers_and_beyond_it_does_not(tmp_path: Path):
    base = TinyModel(layers=2).write(tmp_path / "base")
    assert judged(tmp_path / "most", 500.0, 127.0, "BF16")["fit"]
    assert np.isfinite(answers(base, 500.0, 127.0)).all()
    with pytest.raises(Unfit):
        judged(tmp_path / "beyond", 1e30, 1e30, "BF16")
    assert not np.isfinite(answers(base, 1e30, 1e30)).all()
