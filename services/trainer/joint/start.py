"""Begins a job with the weights of an earlier version's adapter.

Invariant: what the weights mean does not change: an adapter is gone on with at its own rank, layers and scale, or not
at all.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from services.trainer.bank import Slot
from services.trainer.peft_layout import CONFIG, WEIGHTS
from services.trainer.settings import Method, Settings


def begin_with(slot: Slot, folder: Path, settings: Settings) -> None:
    """Load the adapter in `folder` (PEFT's layout) into a fresh slot.

    Raises ValueError, a sentence, for one of other ranks, layers or scale.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        tensors = load_file(str(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError("the adapter to continue from cannot be read; take another version") from error
    wanted = {
        "lora_alpha": settings.alpha,
        "use_rslora": settings.method is Method.RSLORA,
        "alpha_pattern": dict(settings.alpha_pattern),
        "rank_pattern": dict(settings.rank_pattern),
    }
    for name, value in wanted.items():
        found = config.get(name, type(value)())
        if found != value:
            raise ValueError(f"{name} of the adapter to continue from is {found}, not {value}: give its own")
    slot.load_adapter(tensors)
