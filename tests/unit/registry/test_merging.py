"""A merged model answers as base and adapter do together, whatever the adapter is made of."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.registry.inspection import Unfit
from services.registry.inspection.child import judge
from services.registry.merging.child import merge
from services.registry.merging.weights import decoded, encoded
from tests.tiny_model import TinyModel, tokenizer_files

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BIASED = {"attention_bias": True, "mlp_bias": True}


@dataclass(frozen=True)
class Case:
    """An adapter as PEFT makes it, over which base; ``says`` is what the registry says of it, empty when it is served."""

    options: dict[str, Any]
    base: TinyModel = field(default_factory=lambda: TinyModel(layers=1))
    grow_to: int = 0
    says: str = ""
    tied_after: bool = True


UNTIED = TinyModel(layers=1, tied=False, shards=2)
CASES = {
    "LoRA": Case({"target_modules": LINEAR}),
    "LoRA, some layers with ranks and alphas of their own": Case(
        {"target_modules": LINEAR, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"mlp.up_proj": 32}}
    ),
    "rsLoRA": Case({"target_modules": LINEAR, "use_rslora": True}),
    "LoRA over shards": Case({"target_modules": LINEAR}, UNTIED, tied_after=False),
    "DoRA": Case({"target_modules": LINEAR, "use_dora": True}, says="it uses DoRA"),
    "DoRA over biases": Case(
        {"target_modules": LINEAR, "use_dora": True}, TinyModel(layers=1, changes=BIASED), says="it uses DoRA"
    ),
    "trained biases": Case(
        {"target_modules": LINEAR, "bias": "all"}, TinyModel(layers=1, changes=BIASED), says="it trains biases"
    ),
    "LoRA biases where the base has none": Case(
        {"target_modules": ["q_proj", "down_proj"], "lora_bias": True}, says="it has LoRA biases"
    ),
    "LoRA biases where the base has some": Case(
        {"target_modules": LINEAR, "lora_bias": True}, TinyModel(layers=1, changes=BIASED), says="it has LoRA biases"
    ),
    "a whole output layer, tied until then": Case(
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, says="lm_head", tied_after=False
    ),
    "whole embeddings, tied until then": Case(
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, says="embed_tokens", tied_after=False
    ),
    "whole embeddings, norms and output layer": Case(
        {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens", "input_layernorm", "lm_head", "up_proj"]},
        UNTIED,
        says="it replaces whole modules",
        tied_after=False,
    ),
    "a grown vocabulary, tied": Case({"target_modules": LINEAR}, grow_to=333, says="a vocabulary of its own"),
    "a grown vocabulary, untied": Case(
        {"target_modules": LINEAR}, UNTIED, grow_to=333, says="a vocabulary of its own", tied_after=False
    ),
    "single tokens, tied": Case(
        {"target_modules": ["q_proj"], "trainable_token_indices": [7, 3]}, says="it retrains single tokens"
    ),
    "single tokens of both ends": Case(
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [7, 3], "lm_head": [5]}},
        UNTIED,
        says="it retrains single tokens",
        tied_after=False,
    ),
    "LoRA on embeddings and output layer": Case(
        {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}, UNTIED, says="own", tied_after=False
    ),
    "LoRA on embeddings, tied until then": Case({"target_modules": ["embed_tokens"]}, says="own", tied_after=False),
}  # fmt: skip


def trained(case: Case, base: Path, out: Path) -> Any:
    """The base with the adapter, every trained number a random one; the adapter is saved to ``out``."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(11)
    if case.grow_to:
        model.resize_token_embeddings(case.grow_to, mean_resizing=False)
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=6, task_type="CAUSAL_LM", **case.options))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                start = parameter if "magnitude" in name else torch.zeros_like(parameter)
                parameter.copy_(start * 1.2 + torch.randn_like(parameter) * 0.1)
        for name, buffer in adapted.named_buffers():
            assert "trainable_tokens" not in name or not buffer.requires_grad
    adapted.save_pretrained(out)
    return adapted.eval()


def logits(model: Any, tokens: int) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(0, tokens, 5)[None]).logits[0].numpy()


def files(folder: Path, keep: Callable[[str], bool] = lambda _: True) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir() if path.is_file() and keep(path.name)}


def of_adapter(folder: Path) -> dict[str, Path]:
    return files(folder, lambda name: name in ("adapter_config.json", "adapter_model.safetensors"))


@pytest.mark.parametrize("name", CASES)
def test_the_merged_model_answers_as_base_and_adapter_together(tmp_path: Path, name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    case = CASES[name]
    base = case.base.write(tmp_path / "base")
    adapted = trained(case, base, tmp_path / "adapter")
    out = tmp_path / "out"
    out.mkdir()
    kept = of_adapter(tmp_path / "adapter")
    task = {"kind": "LORA", "files": {key: str(path) for key, path in kept.items()}}
    verdict = judge({**task, "base_config": str(base / "config.json")})
    assert case.says in str(verdict["unservable"])
    assert bool(verdict["unservable"]) == bool(case.says)
    written = merge(files(base), kept, out)
    assert judge({"kind": "FULL", "files": {key: str(out / key) for key, _, _ in written}})["fit"]
    config = json.loads((out / "config.json").read_text())
    assert (config["tie_word_embeddings"], config["vocab_size"]) == (case.tied_after, case.grow_to or 320)
    merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    whole = case.grow_to or 320
    np.testing.assert_allclose(logits(merged, whole), logits(adapted, whole), rtol=2e-4, atol=2e-4)
    untouched = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    assert np.abs(logits(merged, 320)[:, :320] - logits(untouched, 320)).max() > 0.01


def test_the_adapters_own_tokenizer_goes_with_it_whole_and_else_the_bases(tmp_path: Path) -> None:
    case = CASES["a grown vocabulary, tied"]
    base = case.base.write(tmp_path / "base")
    trained(case, base, tmp_path / "adapter")
    (base / "special_tokens_map.json").write_text("{}")
    for place, content in tokenizer_files(added=("<|tool|>",)).items():
        (tmp_path / "adapter" / place).write_bytes(content)
    out = tmp_path / "out"
    out.mkdir()
    written = {name for name, _, _ in merge(files(base), files(tmp_path / "adapter", lambda n: n != "README.md"), out)}
    assert (out / "tokenizer.json").read_bytes() == (tmp_path / "adapter" / "tokenizer.json").read_bytes()
    assert "special_tokens_map.json" not in written
    assert not {"adapter_config.json", "adapter_model.safetensors"} & written
    again = tmp_path / "again"
    again.mkdir()
    merge(files(base), of_adapter(tmp_path / "adapter"), again)
    assert (again / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def changed(folder: Path, **config: Any) -> dict[str, Path]:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return of_adapter(folder)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"alpha_pattern": {".*q_proj": 3}}, "alpha_pattern.* expressions"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern.* 0"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"use_dora": True}, "magnitude"),
    ],
)
def test_what_cannot_be_placed_is_refused(tmp_path: Path, config: dict[str, Any], named: str) -> None:
    case = CASES["LoRA"]
    base = case.base.write(tmp_path / "base")
    trained(case, base, tmp_path / "adapter")
    kept = changed(tmp_path / "adapter", **config)

    def judged_and_merged() -> None:
        task = {"kind": "LORA", "files": {key: str(path) for key, path in kept.items()}}
        judge({**task, "base_config": str(base / "config.json")})
        merge(files(base), kept, tmp_path)

    with pytest.raises(Unfit, match=named):
        judged_and_merged()


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    trained(CASES["LoRA"], TinyModel(layers=1).write(tmp_path / "base"), tmp_path / "adapter")
    other = TinyModel(layers=1, hidden=32).write(tmp_path / "other")
    with pytest.raises(Unfit, match=r"self_attn\.q_proj\.weight.* \[32, 32\]"):
        merge(files(other), of_adapter(tmp_path / "adapter"), tmp_path)


def test_a_merge_in_bfloat16_rounds_once(tmp_path: Path) -> None:
    base = TinyModel(layers=1, dtype="BF16").write(tmp_path / "base")
    adapted = trained(CASES["LoRA"], base, tmp_path / "adapter")
    out = tmp_path / "out"
    out.mkdir()
    merge(files(base), of_adapter(tmp_path / "adapter"), out)
    import torch
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(out)
    assert merged.dtype is torch.bfloat16
    exact = adapted.merge_and_unload().model.layers[0].self_attn.q_proj.weight
    held = merged.model.layers[0].self_attn.q_proj.weight.float()
    # Half of the last of eight bits.
    assert ((held - exact).abs() <= exact.abs() * 2.0**-8).all()


def test_numbers_go_to_every_width_and_back_and_never_beyond_it() -> None:
    values = np.array([0.0, -0.0, 1.0, 1.00390625, 3.0e38, -1e-40, 65504.0], np.float32)
    import torch

    for dtype, kind in (("BF16", torch.bfloat16), ("F32", torch.float32)):
        theirs = torch.from_numpy(values).to(kind).float().numpy()
        np.testing.assert_array_equal(decoded(encoded(values, dtype, "w"), dtype), theirs)
    for dtype, beyond in (("F16", 70000.0), ("BF16", 3.4e38), ("F32", np.inf)):
        with pytest.raises(Unfit, match=f"w: .*{dtype}"):
            encoded(np.array([beyond], np.float32), dtype, "w")
