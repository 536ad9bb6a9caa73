"""Bases: which adapters belong here, and what their modules measure."""

from pathlib import Path

import pytest

from services.chassis.errors import Failure, Reason
from services.registry.bases import Base, module_shapes, require_base
from services.registry.inspection import Unfit
from services.registry.inspection.adapter import check_config, check_tensors
from services.registry.inspection.tensors import read_header
from tests.adapters import BASE_DIGEST, Adapter, safetensors

OTHER = "sha256:" + "0" * 64


def base_in(folder: Path) -> Base:
    weights = {
        "model.layers.0.self_attn.q_proj.weight": ("F32", [4, 6], bytes(96)),
        "model.embed_tokens.weight": ("F32", [10, 6], bytes(240)),
        "model.norm.weight": ("F32", [6], bytes(24)),
    }
    (folder / "model.safetensors").write_bytes(safetensors(weights))
    return Base("small", BASE_DIGEST, folder)


def test_an_adapter_for_another_base_is_refused_with_both_names(tmp_path: Path):
    with pytest.raises(Failure) as caught:
        require_base(OTHER, [base_in(tmp_path)])
    assert caught.value.reason is Reason.BASE_MISMATCH
    assert OTHER in caught.value.sentence
    assert "small" in caught.value.sentence


def test_what_is_not_known_refuses_nobody():
    assert require_base(OTHER, []) is None
    assert module_shapes(None) is None
    assert module_shapes(Base("by digest", BASE_DIGEST)) is None


def test_shapes_are_read_from_the_bases_files(tmp_path: Path):
    assert module_shapes(base_in(tmp_path)) == {
        "model.layers.0.self_attn.q_proj": (4, 6), "model.embed_tokens": (10, 6), "lm_head": (10, 6),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("adapter", "named"),
    [
        (Adapter(), ""),
        (Adapter(inputs=8), "q_proj.* 4 x 8.* 4 x 6"),
        (Adapter(module="model.layers.9.self_attn.q_proj"), r"module model\.layers\.9\.self_attn\.q_proj"),
    ],
)
def test_an_adapter_must_fit_the_modules_of_its_base(tmp_path: Path, adapter: Adapter, named: str):
    shapes = module_shapes(base_in(tmp_path))
    weights = tmp_path / "adapter"
    weights.write_bytes(adapter.files()["adapter_model.safetensors"])
    tensors, config = read_header("a", weights), check_config({"peft_type": "LORA", "r": 2})
    if named:
        with pytest.raises(Unfit, match=named):
            check_tensors(config, tensors, shapes)
    else:
        assert check_tensors(config, tensors, shapes).rank == 2
