"""A good small adapter for a base, and the means to break it: files as bytes, randomness drawn from one seed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.adapters import Entry, safetensors

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
Files = dict[str, bytes]
_WIDTH = {"F64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "F8_E4M3": 1, "I8": 1, "U8": 1, "BOOL": 1}
_SMALL = 0.05


@dataclass(frozen=True)
class Good:
    """A whole adapter: modules of the base with one rank, float32 unless said."""

    draw: random.Random
    modules: Sequence[tuple[str, tuple[int, int]]]
    rank: int

    def tensors(self, *, dtype: str = "F32", value: Callable[[], float] | None = None) -> dict[str, Entry]:
        """Its tensors by name; ``value`` draws a number."""
        drawn = value or (lambda: self.draw.gauss(0, _SMALL))
        made: dict[str, Entry] = {}
        for module, (outputs, inputs) in self.modules:
            for side, shape in (("A", (self.rank, inputs)), ("B", (outputs, self.rank))):
                count = shape[0] * shape[1]
                # A few numbers in turn: what a class is about does not depend on each of them.
                numbers = [drawn() for _ in range(min(count, 64))]
                content = b"".join(packed(number, dtype) for number in numbers)
                repeated = (content * (count // len(numbers) + 1))[: count * _WIDTH[dtype]]
                made[f"{PREFIX}{module}.lora_{side}.weight"] = (dtype, list(shape), repeated)
        return made

    def config(self, **keys: Any) -> bytes:
        """Its configuration, with keys replaced or added."""
        last = sorted({module.rpartition(".")[2] for module, _ in self.modules})
        config = {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": 2 * self.rank,
            "target_modules": last,
            "bias": "none",
            "task_type": "CAUSAL_LM",
        }
        return json.dumps(config | keys).encode()

    def files(self, weights: bytes | None = None, config: bytes | None = None) -> Files:
        """Both files, each replaced if given."""
        return {
            WEIGHTS: safetensors(self.tensors()) if weights is None else weights,
            CONFIG: self.config() if config is None else config,
        }

    def with_tensors(self, changed: Mapping[str, Entry | None]) -> Files:
        """The files with tensors replaced, added or, by None, left out."""
        tensors = self.tensors() | {name: entry for name, entry in changed.items() if entry is not None}
        return self.files(
            safetensors({name: entry for name, entry in tensors.items() if changed.get(name, 0) is not None})
        )

    def with_entry(self, **fields: Any) -> Files:
        """The files with fields of one tensor's entry in the header replaced."""
        whole = safetensors(self.tensors())
        header, body = split(whole)
        entries = json.loads(header)
        entries[self.name()] |= fields
        return self.files(raw(json.dumps(entries).encode(), body))

    def name(self, side: str = "A", place: int = 0) -> str:
        """One tensor's name."""
        return f"{PREFIX}{self.modules[place][0]}.lora_{side}.weight"

    def entry(self, side: str = "A") -> Entry:
        """That tensor."""
        return self.tensors()[self.name(side)]


def packed(number: float, dtype: str) -> bytes:
    """One number as it lies in a file, little-endian."""
    if dtype == "BF16":
        return struct.pack("<f", number)[2:]
    formats = {"F64": "<d", "F32": "<f", "F16": "<e"}
    if dtype in formats:
        return struct.pack(formats[dtype], number)
    return bytes([1] * _WIDTH[dtype])


def raw(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of these bytes; ``length`` lies about the header's."""
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def split(whole: bytes) -> tuple[bytes, bytes]:
    """Header and body of a safetensors file."""
    length = int.from_bytes(whole[:8], "little")
    return whole[8 : 8 + length], whole[8 + length :]


def good(draw: random.Random, shapes: Mapping[str, tuple[int, int]]) -> Good:
    """A whole adapter of one to three modules and rank 1, 2 or 4."""
    modules = draw.sample(sorted(shapes.items()), draw.randint(1, 3))
    return Good(draw, modules, draw.choice((1, 2, 4)))
