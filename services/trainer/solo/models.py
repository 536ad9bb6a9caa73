"""The model that a solo job trains: all parameters in fp32, or a frozen base, whole or in 4 bits, with an adapter on it.

Invariant: what is trained is held in fp32 whatever the base is kept in: steps of a small rate are smaller than bf16 can
tell from nothing.  The same base, settings and seed begin with the same bits.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from services.trainer.bank.spec import linear_layers
from services.trainer.formulas import attention_of
from services.trainer.modules import module_names, require_all_named
from services.trainer.peft_layout import CONFIG, WEIGHTS
from services.trainer.settings import Initialisation, Method, Settings
from services.trainer.solo.ranks import ALONE, Ranks, gathered

# What a base is held in that is not trained: half the memory, and the dtype that it is served in.
FROZEN_DTYPE = torch.bfloat16
# What numpy's and Python's generators take as a seed too.
_SEEDS = 2**32
_BEGINNINGS: dict[Initialisation, Any] = {
    Initialisation.KAIMING: True,
    Initialisation.GAUSSIAN: "gaussian",
    Initialisation.ORTHOGONAL: "orthogonal",
}
# What must agree with an earlier adapter, so that going on begins where it ended.
_SCALE = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")


def seed_of(settings: Settings) -> int:
    """The settings' seed, for libraries that take 32 bits."""
    return settings.seed % _SEEDS


def config_of(folder: Path) -> Any:
    """The configuration of the base in `folder`, as transformers reads it."""
    return AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)


def base_dtype(folder: Path) -> torch.dtype:
    """The dtype in which a base is kept, which its successors keep."""
    kept = config_of(folder).dtype
    return kept if isinstance(kept, torch.dtype) else torch.bfloat16


def load(base: Path, settings: Settings, start: Path | None = None, *, begins: bool = True) -> Any:
    """Return the model to train: a causal LM, or a PeftModel around a frozen one.

    ``start`` is the folder of an earlier adapter, in PEFT's layout, to go on from.  ``begins``: no step is done yet; a job
    of an earlier release, which took settings that name nothing, goes on.  Raises ValueError, a sentence, for settings that
    do not fit the base or the earlier adapter.
    """
    if settings.method is Method.FULL:
        return _from(base, dtype=torch.float32)
    frozen = _quantised(base) if settings.method is Method.QLORA else _from(base, dtype=FROZEN_DTYPE)
    model = _adapted(frozen, settings, begins=begins)
    if start is not None:
        _go_on(model, start)
    return model


def _from(base: Path, **how: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        str(base),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        **attention_of(config_of(base)),
        **how,
    )


def _quantised(base: Path) -> Any:
    """The base with its linear layers in NF4, their scales quantised too, as the QLoRA paper has it (section 3)."""
    from bitsandbytes.nn.modules import Linear4bit

    kind = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=FROZEN_DTYPE,
    )
    model = _from(base, dtype=FROZEN_DTYPE, quantization_config=kind)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # An evaluation would re-order the weights for a product without a gradient, and they would stay so.
            module.support_avx512bf16_for_cpu = False
    return model


def _adapted(frozen: Any, settings: Settings, *, begins: bool) -> PeftModel:
    names = tuple(linear_layers(frozen))
    if begins:
        # PEFT passes over what names nothing.
        require_all_named(settings, names)
    wanted = tuple(sorted(settings.target_modules)) or module_names(names)
    # PEFT would make adapters of the dtype of the weights, which in 4 bits is none that can be trained.
    late = settings.method is Method.QLORA and settings.initialisation is Initialisation.ORTHOGONAL
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=_whole(settings.alpha),
        target_modules=list(wanted),
        exclude_modules=list(settings.exclude_modules) or None,
        layers_to_transform=list(settings.layers) or None,
        rank_pattern=dict(settings.rank_pattern),
        alpha_pattern=dict(settings.alpha_pattern),
        lora_dropout=settings.dropout,
        init_lora_weights=True if late else _BEGINNINGS[settings.initialisation],
        use_dora=settings.method is Method.DORA,
        bias="none",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed_of(settings))
    model = get_peft_model(frozen, config, autocast_adapter_dtype=True)
    if late:
        _make_orthogonal(model)
    for parameter in trained(model).values():
        parameter.data = parameter.data.float()
    return model


def _make_orthogonal(model: PeftModel) -> None:
    """Begin PEFT's orthogonal way, as if the layers below were fp32."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            stand_in = SimpleNamespace(weight=torch.empty(0))
            module.get_base_layer = lambda stand_in=stand_in: stand_in
            module.orthogonal_init("default")
            del module.get_base_layer


def _whole(alpha: float) -> float:
    # As PEFT's own files have it.
    return int(alpha) if alpha == int(alpha) else alpha


def _go_on(model: PeftModel, start: Path) -> None:
    """Begin with an earlier adapter's weights.  Raises ValueError where the two differ in more than weights."""
    earlier = json.loads((start / CONFIG).read_text())
    ours = model.peft_config["default"].to_dict()
    for name in _SCALE:
        if (earlier.get(name) or 0) != (ours[name] or 0):
            raise ValueError(f"the earlier adapter has {name} {earlier.get(name)}, these settings {ours[name]}")
    tensors = load_file(str(start / WEIGHTS))
    wanted = {name: tensor.shape for name, tensor in get_peft_model_state_dict(model).items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != wanted:
        raise ValueError(
            "the earlier adapter is on other layers than these settings: set target_modules as it has them"
        )
    set_peft_model_state_dict(model, tensors)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, all fp32, by their names inside the model, in a fixed order."""
    return {name: value for name, value in sorted(model.named_parameters()) if value.requires_grad}


def optimizer(parameters: dict[str, nn.Parameter], settings: Settings) -> torch.optim.AdamW:
    """AdamW over them; only matrices decay: norms, biases and DoRA's magnitudes have no use for being small."""
    matrices = [value for value in parameters.values() if value.ndim > 1]
    others = [value for value in parameters.values() if value.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), eps=settings.epsilon, fused=True
    )


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Inside the block the model answers as it will be served, without gradients."""
    before = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(before)


def result_of(
    model: Any, parameters: dict[str, nn.Parameter], dtype: torch.dtype, ranks: Ranks = ALONE
) -> dict[str, Tensor]:
    """A copy of what the version will hold, by parameter name: adapters in fp32, full models in the base's dtype.

    Of several processes all must ask, and the first has it.
    """
    kept = torch.float32 if isinstance(model, PeftModel) else dtype
    return gathered({name: value.detach().to(kept, copy=True) for name, value in parameters.items()}, ranks)
