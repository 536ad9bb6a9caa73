"""How PEFT names the files of an adapter, for whoever needs no more of it: its import takes seconds."""

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
