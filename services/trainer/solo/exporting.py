"""What a solo job's checkpoint keeps beside its tensors so that a version can be made of it (`exports`).

Invariant: the names are those under which the job's own result would be written.
"""

import json
from collections.abc import Mapping
from typing import Any

from peft import PeftModel, get_peft_model_state_dict

from services.trainer import exports


def export_of(model: Any, base_name: str, facts: Mapping[str, object]) -> dict[str, Any]:
    """What the state of every checkpoint has of the model: an adapter's names and configuration, or that it is a full one.

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
