"""How PEFT names and writes the files, tensors and modules of an adapter, for whoever needs no more of it.

Its import takes seconds.
Invariant: the same configuration gives the same bytes, whichever process writes it.
"""

import json
import re
from collections.abc import Mapping

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# A module's name, or the end of one: PEFT would take a pattern for a regular expression, here it is a name alone.
MODULE_NAME = re.compile(r"\w+(\.\w+)*", re.ASCII)


def adapter_weight(layer: str, matrix: str) -> str:
    """The tensor of a layer's matrix, A [rank, inputs] or B [outputs, rank]."""
    return f"base_model.model.{layer}.lora_{matrix}.weight"


def names_module(name: str, module: str) -> bool:
    """Whether `name` is the module's own, or the end of it."""
    return module == name or module.endswith(f".{name}")


def config_file(config: Mapping[str, object]) -> str:
    """The text of the file `CONFIG`, of plain JSON values."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"
