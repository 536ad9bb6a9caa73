"""What a base's configuration says of formulas of its own, before anything of it is loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer.formulas import _OWN_ATTENTION, _SINKS, unjoinable
from services.trainer.joint.composition import load_base
from services.trainer.needs import architecture
from services.trainer.settings import Method
from services.trainer.solo import models
from tests.tiny_model import TinyModel
from tests.unit.trainer.bank.kinds import make_base_of
from tests.unit.trainer.solo.small_jobs import with_settings

UNKNOWN = "which joint training does not compute"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"model_type": "llama"}, ""),
        ({"model_type": "llama", "logit_scale": 1.0, "logits_scaling": 1, "final_logit_softcapping": None}, ""),
        ({"model_type": "llama", "logit_scale": 2.0}, f"llama has logit_scale, {UNKNOWN}"),
        # It multiplies where Granite divides.
        ({"model_type": "hyperclovax", "logits_scaling": 0.5}, f"hyperclovax has logits_scaling, {UNKNOWN}"),
        ({"model_type": "nanochat", "final_logit_softcapping": 1}, f"nanochat has final_logit_softcapping, {UNKNOWN}"),
        ({"model_type": "gemma3_text", "attn_logit_softcapping": 50.0}, f"attn_logit_softcapping, {UNKNOWN}"),
        ({"model_type": "gemma2", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}, ""),
        ({"model_type": "gpt_oss"}, f"gpt_oss has attention sinks, {UNKNOWN}"),
        ({"model_type": "qwen3_next"}, "qwen3_next brings its own attention, which cannot be shared between jobs"),
    ],
)
def test_what_is_not_computed_for_a_kind_of_base_is_named_by_its_configuration(
    config: dict[str, Any], problem: str
) -> None:
    assert unjoinable(config).endswith(problem)
    assert bool(unjoinable(config)) is bool(problem)
    assert architecture({**TinyModel().config(), **config}).unjoinable == unjoinable(config)


def test_kinds_that_are_said_to_bring_their_own_attention_do() -> None:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    shared = [
        kind
        for kind in _OWN_ATTENTION
        if getattr(getattr(transformers, NAMES[kind]), "_supports_attention_backend", False)
    ]
    assert shared == []


def test_kinds_that_have_sinks_are_all_named() -> None:
    import transformers

    models = Path(transformers.__file__).parent / "models"
    found = {path.parent.name for path in models.glob("*/modeling_*.py") if "s_aux=" in path.read_text()}
    # Which reads texts whole and writes none.
    assert found - {"openai_privacy_filter"} == _SINKS


def test_a_base_whose_attention_is_capped_is_loaded_with_one_that_caps(tmp_path: Path) -> None:
    base = make_base_of(tmp_path, "Gemma2")
    tokens = torch.arange(5, 45)[None]
    solo = models.load(base, with_settings(method=Method.FULL))
    joint = load_base(base, torch.float32)
    solo.eval()
    with torch.no_grad():
        found = [model(tokens, use_cache=False).logits for model in (solo, joint)]
        solo.set_attn_implementation("sdpa")
        uncapped = solo(tokens, use_cache=False).logits
    assert torch.equal(*found)
    assert not torch.allclose(found[0], uncapped, atol=1e-2)
