"""Full models small enough for every test: random Llamas of a few hundred kilobytes, made by code, without torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.chassis.model_cache import digest_of
from services.registry.inspection.layout import tensors
from tests.adapters import safetensors

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The same with tools: shown before all turns, calls written between marks, results as turns of their own.
TOOL_TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% for call in message.tool_calls or [] %}"
    '{{ \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' + call.function.arguments | tojson }}'
    "{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# A mark of a turn's end that is not the one that ends a text, as Llama 3 and Gemma have them.
TURN_END = "<|eot|>"


@dataclass(frozen=True)
class TinyModel:
    """A Llama over bytes; ``seed`` makes its weights its own, ``marks`` are more of its tokenizer's, ``changes`` go over its ``config.json``."""

    seed: int = 0
    hidden: int = 64
    layers: int = 2
    tied: bool = True
    shards: int = 1
    dtype: str = "F32"
    template: str = TEMPLATE
    marks: tuple[str, ...] = ()
    changes: Mapping[str, Any] | None = None

    def config(self) -> dict[str, Any]:
        """Its ``config.json``."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 320,
            "hidden_size": self.hidden,
            "intermediate_size": 2 * self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": self.tied,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "hidden_act": "silu",
            "dtype": {"F32": "float32", "BF16": "bfloat16"}[self.dtype],
            **(self.changes or {}),
        }

    def weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Its tensors in float32, by name."""
        random = np.random.default_rng(self.seed)
        found = {}
        for name, shape in tensors(self.config()).items():
            values = random.standard_normal(shape, dtype=np.float32) * 0.08
            found[name] = np.ones(shape, np.float32) if name.endswith("norm.weight") else values
        return found

    def files(self) -> dict[str, bytes]:
        """Its files by name, as transformers saves them."""
        found = {
            "config.json": json.dumps(self.config()).encode(),
            "generation_config.json": json.dumps({"bos_token_id": 0, "eos_token_id": 1}).encode(),
            **tokenizer_files(self.template, self.marks),
        }
        names = sorted(self.weights())
        if self.shards == 1:
            found["model.safetensors"] = self._encoded(names)
            return found
        where = {}
        for shard in range(self.shards):
            filename = f"model-{shard + 1:05d}-of-{self.shards:05d}.safetensors"
            held = names[shard :: self.shards]
            found[filename] = self._encoded(held)
            where.update(dict.fromkeys(held, filename))
        total = sum(value.nbytes for value in self.weights().values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        found["model.safetensors.index.json"] = json.dumps(index).encode()
        return found

    @classmethod
    def ending_turns(cls) -> "TinyModel":
        """One whose template ends turns with `TURN_END`."""
        return cls(template=TEMPLATE.replace("<|im_end|>", TURN_END), marks=(TURN_END,))

    def _encoded(self, names: list[str]) -> bytes:
        weights = self.weights()
        return safetensors({name: (self.dtype, weights[name].shape, self._bytes(weights[name])) for name in names})

    def _bytes(self, value: np.ndarray[Any, Any]) -> bytes:
        if self.dtype == "F32":
            return value.astype("<f4").tobytes()
        # Cut to the upper half: exact enough for random numbers.
        return (value.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()

    def digest(self) -> str:
        """Its folder's digest."""
        return digest_of({name: hashlib.sha256(content).hexdigest() for name, content in self.files().items()})

    def write(self, folder: Path) -> Path:
        """Write it as a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (folder / name).write_bytes(content)
        return folder


def tokenizer_files(template: str = TEMPLATE, added: tuple[str, ...] = ()) -> dict[str, bytes]:
    """A tokenizer over bytes with two marks of turns, and ``added`` ones behind them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks = ("<|im_start|>", "<|im_end|>")
    vocabulary = {token: number for number, token in enumerate([*marks, *alphabet])}
    bare = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    bare.add_special_tokens([AddedToken(mark, special=True) for mark in (*marks, *added)])
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": marks[0],
        "eos_token": marks[1],
        "pad_token": marks[1],
        "model_max_length": 512,
    }
    return {
        "tokenizer.json": bare.to_str().encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
        **({"chat_template.jinja": template.encode()} if template else {}),
    }
