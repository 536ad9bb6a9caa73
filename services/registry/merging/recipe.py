"""What becomes of each tensor of the base: kept, replaced, added to, in the formulas of PEFT's own layers.

W is [out, in], A [rank, in], B [out, rank], s the scale; ‖·‖ is the norm of a row:
LoRA W + s·B·A; rsLoRA the same with s = alpha/√rank; DoRA m/‖W + s·B·A‖ · (W + s·B·A); an embedding, whose rows are
tokens, W + s·(B·A)ᵀ.  Invariant: a forward pass of the merged model is that of base and adapter, to rounding.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from services.registry.inspection import Unfit
from services.registry.inspection.adapter import MAGNITUDE, check_config, sorted_out
from services.registry.inspection.beyond import EMBEDDING, HEAD, Beyond, gathered, modules_to_save, token_indices
from services.registry.merging.weights import Rows, Stored, blocks, encoded

_PLAIN = re.compile(r"^[A-Za-z0-9_.]+$")


@dataclass(frozen=True, slots=True)
class Low:
    """One module's low-rank change; ``turned`` for an embedding, whose matrices lie the other way round."""

    down: Stored
    up: Stored
    scale: float
    magnitude: Stored | None = None
    turned: bool = False

    def rows(self, first: int, last: int) -> Rows:
        """Rows of the change itself, scaled."""
        if self.turned:
            change = self.down.rows()[:, first:last].T @ self.up.rows().T
        else:
            change = self.up.rows(first, last) @ self.down.rows()
        return np.asarray(change * np.float32(self.scale), np.float32)

    def applied(self, weight: Rows, first: int, last: int) -> Rows:
        """``weight``, rows [first, last) of the base's, with the change in it."""
        summed = weight + self.rows(first, last)
        if self.magnitude is None:
            return summed
        norms = np.linalg.norm(summed, axis=1, keepdims=True)
        if not norms.all():
            raise Unfit("a row of the base and the adapter together is zero, which DoRA cannot scale")
        length = self.magnitude.rows().reshape(-1)[first:last, None]
        return np.asarray(summed * (length / norms), np.float32)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one tensor is made: ``source`` (or zeros of ``shape``), single rows exchanged, then a change."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: Stored | None
    tokens: tuple[tuple[int, ...], Stored] | None = None
    low: Low | None = None
    added: tuple[Stored, float] | None = None

    def pieces(self) -> Iterator[bytes]:
        """The tensor's bytes, some rows at a time.  Raises Unfit."""
        for first, last in blocks(self.shape):
            yield encoded(self._rows(first, last), self.dtype, self.name)

    def _rows(self, first: int, last: int) -> Rows:
        rows = np.zeros((last - first, self.shape[-1]), np.float32)
        if self.source is not None:
            rows = self.source.rows(first, last).copy()
        if self.tokens is not None:
            indices, values = self.tokens
            for place, index in enumerate(indices):
                if first <= index < last:
                    rows[index - first] = values.rows(place, place + 1)[0]
        if self.added is not None:
            bias, scale = self.added
            rows = rows + bias.rows() * np.float32(scale)
        return rows if self.low is None else self.low.applied(rows, first, last)


class Adapter:
    """An adapter's tensors by what they do.  Raises Unfit for what cannot be merged."""

    def __init__(self, config: object, tensors: Mapping[str, Stored]) -> None:
        self.config = check_config(config)
        self._stored = tensors
        self._modules, others = sorted_out(found.tensor for found in tensors.values())
        self._beyond: Beyond = gathered(self.config, others)
        for key in ("rank_pattern", "alpha_pattern"):
            pattern = self.config.get(key) or {}
            assert isinstance(pattern, dict)  # check_config saw to it
            if not all(_PLAIN.match(name) for name in pattern):
                raise Unfit(f"adapter_config.json: {key} holds expressions; write the modules' names out")
        if self.config.get("fan_in_fan_out"):
            raise Unfit("adapter_config.json: fan_in_fan_out is for bases of another kind")
        if self.config.get("layer_replication"):
            raise Unfit("adapter_config.json: layer_replication changes the base's layers")

    @property
    def modules(self) -> set[str]:
        """Every module that it touches."""
        found = self._beyond
        return {*self._modules, *found.weights, *found.biases, *found.added_biases, *found.tokens}

    def low(self, module: str) -> Low | None:
        """The low-rank change of a module."""
        parts = self._modules.get(module)
        if parts is None:
            return None
        stored = {part: self._stored[tensor.name] for part, tensor in parts.items()}
        magnitude = stored.get(MAGNITUDE)
        if "lora_embedding_A" not in stored:
            down, up = stored["lora_A"], stored["lora_B"]
            return Low(down, up, self._scale(module, down.shape[0]), magnitude)
        if magnitude is not None:
            raise Unfit(f"{module}: DoRA on an embedding is not merged")
        down, up = stored["lora_embedding_A"], stored["lora_embedding_B"]
        return Low(down, up, self._scale(module, down.shape[0]), turned=True)

    def replaced(self, module: str) -> Stored | None:
        """The weight that stands in for the base's."""
        tensor = self._beyond.weights.get(module)
        return None if tensor is None else self._stored[tensor.name]

    def bias(self, module: str) -> Stored | None:
        """The bias that stands in for the base's."""
        tensor = self._beyond.biases.get(module)
        return None if tensor is None else self._stored[tensor.name]

    def added_bias(self, module: str) -> tuple[Stored, float] | None:
        """What is added to the base's bias, and by which factor."""
        tensor = self._beyond.added_biases.get(module)
        if tensor is None:
            return None
        rank = self._modules[module]["lora_A"].shape[0] if module in self._modules else 1
        return self._stored[tensor.name], self._scale(module, rank)

    def tokens(self, module: str) -> tuple[tuple[int, ...], Stored] | None:
        """Rows of an embedding that are exchanged, and their values in that order."""
        tensor = self._beyond.tokens.get(module)
        return None if tensor is None else (tuple(token_indices(self.config, module)), self._stored[tensor.name])

    def saves(self, module: str) -> bool:
        """Whether a module was trained whole, apart from what it shared its weight with."""
        return module.rpartition(".")[2] in modules_to_save(self.config)

    def _scale(self, module: str, rank: int) -> float:
        alpha = self.config.get("lora_alpha", 8)
        pattern = self.config.get("alpha_pattern") or {}
        assert isinstance(pattern, dict)  # check_config saw to it
        for key, value in pattern.items():
            if module == key or module.endswith(f".{key}"):
                alpha = value
                break
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or alpha <= 0:
            raise Unfit("adapter_config.json: alpha_pattern must hold numbers above 0")
        return float(alpha / rank**0.5 if self.config.get("use_rslora") else alpha / rank)


__all__ = ["EMBEDDING", "HEAD", "Adapter", "Low", "Recipe"]
