"""Adapters and safetensors files as tests need them, whole or broken on purpose."""

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Entry = tuple[str, Sequence[int], bytes]

BASE_DIGEST = f"sha256:{'ba5e' * 16}"


def noise(size: int) -> bytes:
    """Content that nobody has uploaded; of random bytes one in ten thousand begins as a pickle does, and is refused."""
    return b"\0" + os.urandom(size - 1)


def digest(content: bytes) -> str:
    """SHA-256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def safetensors(tensors: Mapping[str, Entry], *, header: Mapping[str, Any] | None = None) -> bytes:
    """A safetensors file; ``header`` entries replace what would be written, to break it."""
    described: dict[str, Any] = {}
    position = 0
    for name, (dtype, shape, content) in tensors.items():
        described[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [position, position + len(content)],
        }
        position += len(content)
    described.update(header or {})
    text = json.dumps(described).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(content for _, _, content in tensors.values())


def floats(values: Sequence[float]) -> bytes:
    """Values as little-endian float32."""
    return struct.pack(f"<{len(values)}f", *values)


@dataclass(frozen=True)
class Adapter:
    """A small rank-r LoRA adapter on one module; ``salt``, up to about 10,000, makes its weights its own."""

    salt: float = 1.0
    rank: int = 2
    inputs: int = 6
    outputs: int = 4
    module: str = "model.layers.0.self_attn.q_proj"
    config: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self) -> dict[str, Entry]:
        """Its tensors by name."""
        down = floats([self.salt] * (self.rank * self.inputs))
        up = floats([0.25] * (self.outputs * self.rank))
        path = f"base_model.model.{self.module}"
        return {
            f"{path}.lora_A.weight": ("F32", [self.rank, self.inputs], down),
            f"{path}.lora_B.weight": ("F32", [self.outputs, self.rank], up),
        }

    def files(self) -> dict[str, bytes]:
        """Its files by name, in PEFT's layout."""
        config = {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": 2 * self.rank,
            "target_modules": [self.module.rpartition(".")[2]],
            "bias": "none",
            "task_type": "CAUSAL_LM",
            **self.config,
        }
        return {
            "adapter_model.safetensors": safetensors(self.tensors()),
            "adapter_config.json": json.dumps(config).encode(),
        }
