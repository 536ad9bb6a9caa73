"""A solo job's version as the registry takes it: an adapter in PEFT's layout, or a full model with its base's own files.

Invariant: the same tensors give the same bytes, and no more than one file's weights are held twice in memory.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from services.trainer import exports
from services.trainer.peft_layout import CONFIG, WEIGHTS, config_file

_INDEX = "model.safetensors.index.json"
# All that belongs to a model beside its weights; a base's folder may hold more, which is not the version's.
_COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "chat_template.json",
)


def save_full(
    tensors: Mapping[str, Tensor], base: Path, folder: Path, dtype: torch.dtype, *, max_file_bytes: int = 4 * 1024**3
) -> None:
    """Write the model with these parameters, by their names inside it, into `folder`, in `dtype`.

    Weights over ``max_file_bytes`` are divided over several files, with an index, as transformers does.
    """
    for name in _COPIED:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    # By their size in the dtype that is written: an empty tensor of it has all that the division asks for.
    outlines = {name: torch.empty_like(tensor, dtype=dtype, device="meta") for name, tensor in sorted(tensors.items())}
    division = split_torch_state_dict_into_shards(outlines, max_shard_size=max_file_bytes)
    for filename, names in division.filename_to_tensors.items():
        written = {name: tensors[name].detach().to(dtype).contiguous() for name in names}
        save_file(written, str(folder / filename), metadata={"format": "pt"})
    if division.is_sharded:
        index = {"metadata": {"total_size": division.metadata["total_size"]}, "weight_map": division.tensor_to_filename}
        (folder / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def save_adapter(model: PeftModel, folder: Path, base_name: str) -> None:
    """Write the adapter's weights, in fp32, and its configuration into `folder` in PEFT's layout."""
    tensors = {
        name: tensor.detach().to(torch.float32).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(model).items())
    }
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    (folder / CONFIG).write_text(config_file(config_of(model, base_name)))


def export_of(model: Any, base_name: str, facts: Mapping[str, object]) -> dict[str, Any]:
    """What the state of every checkpoint keeps so that a version can be made of it without the model (`exports`).

    An adapter's names, those that its own result would have, and its configuration; or that it is a full model.
    ``facts`` belong to the version.
    """
    if not isinstance(model, PeftModel):
        return exports.full(facts)
    # PEFT renames what it writes; both names are of one tensor.
    written = {tensor.data_ptr(): name for name, tensor in get_peft_model_state_dict(model).items()}
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    names = {name: written.pop(value.data_ptr()) for name, value in trained.items()}
    assert not written, f"{sorted(written.values())} would be written and is not trained"
    return exports.adapter(names, config_of(model, base_name), facts)


def config_of(model: PeftModel, base_name: str) -> dict[str, Any]:
    """PEFT's adapter_config of the model as plain JSON values."""
    config = model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = base_name
    config["inference_mode"] = True
    plain: dict[str, Any] = json.loads(json.dumps(config, default=_plain))
    return plain


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset | tuple):
        return sorted(value)
    return str(getattr(value, "value", value))
