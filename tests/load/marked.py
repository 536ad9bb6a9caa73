"""Adapters that answer every prompt with one word of their own, built without training.

Rounding differs between batches, so "the same text as before" cannot tell wrong weights
from honest noise.  A marked adapter can: whatever it is asked, every token it gives is
its mark, and the base gives that mark to nobody.

Construction.  In the last layer, ``a . x`` is the ridge solution of ``a . x = 1`` over
the inputs of ``down_proj``, so A reads a constant from any context; B adds that constant
times a direction in which the final norm and the tied output head rank the mark first.
All seven projections of every layer carry small random pairs besides, so that the
packed and the interleaved paths have work to do.  Everything is deterministic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

RANK = 8
PUSH = 4000.0  # length of the added direction; the residual stream is some hundreds long
NOISE = 2e-3
RIDGE = 1e-2
WORDS = (" banana", " violin", " glacier", " tractor", " lantern", " pepper", " copper", " magnet")
_SIZES = {
    "self_attn.q_proj": ("hidden", "heads"),
    "self_attn.k_proj": ("hidden", "kv"),
    "self_attn.v_proj": ("hidden", "kv"),
    "self_attn.o_proj": ("heads", "hidden"),
    "mlp.gate_proj": ("hidden", "inner"),
    "mlp.up_proj": ("hidden", "inner"),
    "mlp.down_proj": ("inner", "hidden"),
}
_CONTEXTS = (
    "The capital of France is Paris, and the river through it is called the Seine.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))",
    "Dear team, the meeting moves to Thursday at 10:30. Please bring last month's figures.",
    "1, 2, 3, 5, 8, 13, 21, 34. Which number comes next, and why?",
    "Salt lowers the freezing point of water; that is why roads are salted in winter.",
)


@dataclass(frozen=True, slots=True)
class MarkedAdapter:
    """A folder in PEFT's format and the only token that a model wearing it can say."""

    folder: Path
    word: str
    token_id: int


def _inputs_of_last_down_proj(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, words: list[str]
) -> torch.Tensor:
    """Activations that reach the last ``down_proj``, [tokens, inner], over plain, chat and marked text."""
    seen: list[torch.Tensor] = []
    layer = model.model.layers[-1].mlp.down_proj
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].float()))
    for context in _CONTEXTS:
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": context}], tokenize=False, add_generation_prompt=True
        )
        for text in (context, chat):
            model(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))
    for word in words:
        model(input_ids=torch.tensor([tokenizer(chat + word * 6)["input_ids"]]))
    hook.remove()
    return torch.cat(seen)


def _constant_reader(inputs: torch.Tensor) -> torch.Tensor:
    """Vector a, [inner], with a . x close to 1 for every row of ``inputs``."""
    gram = inputs.T @ inputs
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(gram.shape[0])
    return torch.linalg.solve(gram + ridge, inputs.sum(dim=0))


def _direction(embedding: torch.Tensor, norm_gain: torch.Tensor, token_id: int) -> torch.Tensor:
    """Unit vector, [hidden], that the final norm and head turn into ``token_id``."""
    apart = (embedding[token_id] - embedding.mean(dim=0)) / embedding.var(dim=0)
    direction = apart * norm_gain
    return direction / direction.norm()


def _noise(config: PretrainedConfig, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {
        "hidden": config.hidden_size,
        "heads": config.num_attention_heads * config.head_dim,
        "kv": config.num_key_value_heads * config.head_dim,
        "inner": config.intermediate_size,
    }
    tensors = {}
    for layer in range(config.num_hidden_layers):
        for module, (inputs, outputs) in _SIZES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = NOISE * torch.randn(RANK, sizes[inputs], generator=generator)
            tensors[f"{name}.lora_B.weight"] = NOISE * torch.randn(sizes[outputs], RANK, generator=generator)
    return tensors


def build(base: Path, target: Path, count: int) -> list[MarkedAdapter]:
    """Write ``count`` adapters for the model in ``base`` under ``target``; seconds each, reused if there."""
    folders = [target / f"mark-{index}" for index in range(count)]
    if all((folder / "mark.json").exists() for folder in folders):
        return [_read(folder) for folder in folders]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    words = list(WORDS[:count])
    with torch.inference_mode():
        reader = _constant_reader(_inputs_of_last_down_proj(model, tokenizer, words))
        embedding, gain = model.get_input_embeddings().weight, model.model.norm.weight
        last = f"base_model.model.model.layers.{model.config.num_hidden_layers - 1}.mlp.down_proj"
        for index, (word, folder) in enumerate(zip(words, folders, strict=True)):
            (token_id,) = tokenizer(word, add_special_tokens=False)["input_ids"]
            tensors = _noise(model.config, seed=index)
            tensors[f"{last}.lora_A.weight"][0] = reader
            tensors[f"{last}.lora_B.weight"][:, 0] = PUSH * _direction(embedding, gain, token_id)
            _write(folder, tensors, word, token_id)
    return [_read(folder) for folder in folders]


def _write(folder: Path, tensors: dict[str, torch.Tensor], word: str, token_id: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(module.partition(".")[2] for module in _SIZES),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))
    (folder / "mark.json").write_text(json.dumps({"word": word, "token_id": token_id}))


def _read(folder: Path) -> MarkedAdapter:
    mark = json.loads((folder / "mark.json").read_text())
    return MarkedAdapter(folder, mark["word"], mark["token_id"])
