"""What a folder on this machine holds, by its own files: an adapter, a full model or an encoder; and which of it is sent.

Invariant: an encoder whose vectors are made otherwise than the embedder makes them (the mean over a text's tokens, no
words put before it) is refused before anything is sent: in the registry it would be another model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Weights as they were kept before safetensors.
_PICKLE = re.compile(r"^(adapter_model|pytorch_model|model|consolidated)\b.*\.(bin|pt|pth|ckpt|pkl)$")
_ADAPTER_CONFIG = "adapter_config.json"
_CONFIG, _INDEX = "config.json", "model.safetensors.index.json"
_VOCABULARY = frozenset({
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt",
})  # fmt: skip
_TOKENIZER = _VOCABULARY | {"chat_template.jinja", "chat_template.json"}
_OF_KIND = {
    "lora": _TOKENIZER | {_ADAPTER_CONFIG, "adapter_model.safetensors"},
    "full": _TOKENIZER | {_CONFIG, "generation_config.json", _INDEX},
    "encoder": _VOCABULARY | {_CONFIG, _INDEX, "sentence_bert_config.json"},
}
_ENCODERS = ("Model", "ForSequenceClassification")
# Of sentence-transformers: what an encoder does after its layers, and what it puts before texts.
_MODULES, _POOLING, _PROMPTS = "modules.json", "1_Pooling", "config_sentence_transformers.json"
_MEANS = ("pooling_mode_mean_tokens", "mean")
_COMPUTED = ("Transformer", "Pooling", "Normalize")


def kind_of(folder: Path) -> str:
    """`lora` for a folder in PEFT's layout, `full` or `encoder` for one as transformers saves it.

    An encoder makes vectors or scores.  Raises ValueError for none of these.
    """
    if (folder / _ADAPTER_CONFIG).is_file():
        return "lora"
    if (folder / _CONFIG).is_file():
        names = _document(folder / _CONFIG).get("architectures")
        first = names[0] if isinstance(names, list) and names else ""
        return "encoder" if str(first).endswith(_ENCODERS) else "full"
    raise ValueError(f"{folder} holds neither adapter_config.json nor config.json; it is no adapter and no model")


def belongs(kind: str, name: str) -> bool:
    """Whether a version of the kind takes a file of this name."""
    weights = kind != "lora" and name.startswith("model") and name.endswith(".safetensors")
    return weights or name in _OF_KIND[kind]


def require_whole(folder: Path, kind: str, names: Sequence[str]) -> None:
    """Raise ValueError for weights in a pickle, and for an encoder that the embedder would compute otherwise."""
    _refuse_pickles(folder, names, "adapter_model.safetensors" if kind == "lora" else "model.safetensors")
    if kind == "encoder":
        _refuse_modules(folder)


def _refuse_pickles(folder: Path, names: Sequence[str], wanted: str) -> None:
    """Whoever reads a pickle runs what it says."""
    pickle = next(filter(_PICKLE.match, names), None)
    if pickle is not None and not any(name.endswith(".safetensors") for name in names):
        raise ValueError(
            f"{folder} holds {pickle}, a pickle, which is never read, and no {wanted}; load it where you trust it and "
            "write it anew: model.save_pretrained(FOLDER, safe_serialization=True)"
        )


def _refuse_modules(folder: Path) -> None:
    modules = _content(folder / _MODULES) if (folder / _MODULES).is_file() else []
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ValueError(f"{folder / _MODULES} is no list of modules")
    for module in modules:
        name = str(module.get("type", "")).rpartition(".")[2]
        if name not in _COMPUTED:
            raise ValueError(f"{folder} computes more than the embedder does: its {_MODULES} names {name or 'nothing'}")
        if name == "Pooling" and module.get("path") != _POOLING:
            raise ValueError(f"{folder / _MODULES} keeps its pooling in another folder than {_POOLING}")
    pooled = any(str(module.get("type", "")).endswith("Pooling") for module in modules)
    if pooled or (folder / _POOLING).is_dir():
        _refuse_pooling(folder / _POOLING / _CONFIG)
    prompts = _document(folder / _PROMPTS).get("prompts") if (folder / _PROMPTS).is_file() else None
    if isinstance(prompts, dict) and any(prompts.values()):
        raise ValueError(f"{folder / _PROMPTS} puts words before texts (prompts), which a version does not keep")


def _refuse_pooling(path: Path) -> None:
    told = _document(path) if path.is_file() else {}
    old = [key for key, value in told.items() if key.startswith("pooling_mode_") and value is True]
    if [*old, *([told["pooling_mode"]] if "pooling_mode" in told else [])] not in ([_MEANS[0]], [_MEANS[1]]):
        raise ValueError(f"{path} does not pool by the mean of the tokens, which is how the embedder makes vectors")


def _document(path: Path) -> dict[str, Any]:
    """The object in a file; empty where it holds none, which the registry refuses."""
    content = _content(path)
    return content if isinstance(content, dict) else {}


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
