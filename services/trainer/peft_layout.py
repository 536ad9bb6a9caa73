"""How PEFT names the files and tensors of an adapter, for whoever needs no more of it: its import takes seconds."""

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def adapter_weight(layer: str, matrix: str) -> str:
    """The tensor of a layer's matrix, A [rank, inputs] or B [outputs, rank]."""
    return f"base_model.model.{layer}.lora_{matrix}.weight"
