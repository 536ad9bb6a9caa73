"""LoRA around a frozen base: what is trained, how it begins, how it is written.

PEFT gives the configuration schema, the names of the tensors and the file layout that
every server reads; the numbers come from the job's own generator.
Invariant: the same base, settings and seed begin with the same bits.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from services.trainer.peft_layout import CONFIG, WEIGHTS
from services.trainer.settings import Method, Settings


class SeededDropout(nn.Module):
    """Dropout whose mask comes from the job's generator: torch's own takes none."""

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        super().__init__()
        self._keep = 1.0 - probability
        self._generator = generator

    def forward(self, hidden: Tensor) -> Tensor:
        """Drop elements of `hidden` (any shape) in training, scale the rest."""
        if not self.training or self._keep == 1.0:
            return hidden
        mask = torch.empty_like(hidden).bernoulli_(self._keep, generator=self._generator)
        return hidden * mask / self._keep


def linear_modules(base: nn.Module) -> tuple[str, ...]:
    """Last names of all linear layers of `base` but its output head, sorted."""
    head = base.get_output_embeddings()
    return tuple(
        sorted(
            {
                name.rpartition(".")[2]
                for name, module in base.named_modules()
                if isinstance(module, nn.Linear) and module is not head
            }
        )
    )


def wrap(base: Any, settings: Settings, generator: torch.Generator) -> PeftModel:
    """Return `base` frozen, with fp32 adapters on its linear layers.  Raises ValueError for a module it lacks."""
    known = linear_modules(base)
    wanted = tuple(sorted(settings.target_modules)) or known
    if missing := sorted(set(wanted) - set(known)):
        raise ValueError(f"the base has no linear layer {', '.join(missing)}; it has {', '.join(known)}")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=_whole(settings.alpha),
        target_modules=list(wanted),
        lora_dropout=settings.dropout,
        use_rslora=settings.method is Method.RSLORA,
        bias="none",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config, autocast_adapter_dtype=True)
    for name, parameter in _named(model):
        # As PEFT begins: A uniform, B zero, so that the first step starts from the base itself.
        if "lora_A" in name:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)
        else:
            nn.init.zeros_(parameter)
    for module in model.modules():
        if settings.dropout and hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = SeededDropout(settings.dropout, generator)
    return model


def trained(model: PeftModel) -> dict[str, Tensor]:
    """Return the tensors that are trained, by the names they have inside the model, in a fixed order."""
    return dict(_named(model))


def save(model: PeftModel, folder: Path, base_name: str) -> None:
    """Write weights and configuration into `folder` in PEFT's layout; the same tensors give the same bytes."""
    tensors = {
        name: tensor.detach().to(torch.float32).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(model).items())
    }
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = base_name
    config["inference_mode"] = True
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True, default=_plain) + "\n")


def _named(model: PeftModel) -> list[tuple[str, nn.Parameter]]:
    return sorted((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _whole(alpha: float) -> Any:
    return int(alpha) if alpha == int(alpha) else alpha


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset | tuple):
        return sorted(value)
    return str(getattr(value, "value", value))
