"""The layers of vLLM that adapters change: slots laid out for the native product, and its call; embeddings in torch.

vLLM keeps each slice of a layer apart; here the slices of a slot lie in one block of memory, and B lies a
second time as rows.cpp reads it.  Invariant: whatever writes or clears a slot renews that copy before the
next step, so a row is never multiplied by what the slot held before.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from services.generator.plugin import compiling, native
from services.generator.plugin.rows import RowPlan, rows_of_embedding

_NATIVE = "trivium_native"
_NUMBER = "trivium_number"


class NativeRows:
    """One layer's slots: A as [slots, slices, rank, in], B packed in pairs of ranks, ranks in use a slot and slice."""

    def __init__(self, down: torch.Tensor, up: tuple[torch.Tensor, ...]) -> None:
        slots, slices, rank, inputs = down.shape
        self._down, self._sources = down, up
        self._widths = np.array([part.shape[2] for part in up], dtype=np.int64)
        outputs = int(self._widths.sum())
        self._up = torch.zeros(slots, (rank + 1) // 2, outputs, 2, dtype=torch.bfloat16)
        self._ranks = np.zeros((slots, slices), dtype=np.int32)
        self._layer = native.Layer(
            down.data_ptr(),
            self._up.data_ptr(),
            self._ranks.ctypes.data,
            self._widths.ctypes.data,
            slices,
            inputs,
            outputs,
            rank,
        )  # fmt: skip - addresses, then sizes
        self._reference = ctypes.byref(self._layer)
        self._add = native.library().trivium_add_rows

    @staticmethod
    def fits(down: torch.Tensor) -> bool:
        """Whether the native product can do this layer; the torch one does the others."""
        return down.dtype is torch.bfloat16 and down.shape[2] <= native.library().trivium_max_rank()

    def renew(self, slot: int) -> None:
        """Copy what the slot holds now."""
        offset = 0
        rank = self._down.shape[2]
        for index, (part, width) in enumerate(zip(self._sources, self._widths.tolist(), strict=True)):
            in_use = torch.nonzero(self._down[slot, index].any(dim=1))
            self._ranks[slot, index] = int(in_use[-1]) + 1 if len(in_use) else 0
            ranks_first = part[slot, 0].t()
            if rank % 2:
                ranks_first = torch.cat((ranks_first, ranks_first.new_zeros(1, width)))
            pairs = ranks_first.reshape(-1, 2, width).transpose(1, 2)
            self._up[slot, :, offset : offset + width] = pairs
            offset += width

    def clear(self, slot: int) -> None:
        """The slot holds nothing."""
        self._ranks[slot] = 0
        self._up[slot] = 0

    def add(self, y: torch.Tensor, x: torch.Tensor, plan: RowPlan, *, plain: bool = False) -> None:
        """Add the product to the planned rows of y [tokens, out], in place; x: [tokens, in]; both bfloat16.

        ``plain`` takes the arithmetic of a processor without bfloat16 of its own.
        """
        self._add(
            self._reference,
            y.data_ptr(),
            y.stride(0),
            x.data_ptr(),
            x.stride(0),
            *plan.addresses,
            plain,
        )  # fmt: skip - layer, rows, plan


def _created(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def create_lora_weights(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        down = torch.cat(self.lora_a_stacked, dim=1)
        self.lora_a_stacked = tuple(down[:, index : index + 1] for index in range(down.shape[1]))
        setattr(self, _NATIVE, NativeRows(down, self.lora_b_stacked) if NativeRows.fits(down) else None)
        setattr(self, _NUMBER, compiling.numbered(functools.partial(_add, self)))
        if self.tp_size == 1:
            self.forward = _straight(self)

    return create_lora_weights


def _straight(layer: Any) -> Callable[[torch.Tensor], Any]:
    """The layer's forward where nothing is gathered from other processors: what never changes is looked up once.

    A step calls it for every layer of the model, and each part of a module is found the slow way in Python.
    """
    base = layer.base_layer
    multiply, returns_bias = base.quant_method.apply, base.return_bias
    within, beside = (None, base.bias) if base.skip_bias_add else (base.bias, None)
    number = getattr(layer, _NUMBER)

    def forward(x: torch.Tensor) -> Any:
        y = multiply(base, x, within)
        if torch.compiler.is_compiling():
            compiling.call(y, x, number)
        elif (plan := layer.punica_wrapper.plan) is not None:
            y = _adapted(layer, x, y, plan)
        return (y, beside) if returns_bias else y

    return forward


def _written(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def set_lora(self: Any, index: int, *args: Any, **kwargs: Any) -> None:
        original(self, index, *args, **kwargs)
        if (rows := getattr(self, _NATIVE, None)) is not None:
            rows.renew(index)

    return set_lora


def _reset(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def reset_lora(self: Any, index: int) -> None:
        original(self, index)
        if (rows := getattr(self, _NATIVE, None)) is not None:
            rows.clear(index)

    return reset_lora


def _apply(self: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    y: torch.Tensor = self.base_layer.quant_method.apply(self.base_layer, x, bias)
    if torch.compiler.is_compiling():
        compiling.call(y, x, getattr(self, _NUMBER))
        return y
    plan = self.punica_wrapper.plan
    return y if plan is None else _adapted(self, x, y, plan)


def _add(layer: Any, y: torch.Tensor, x: torch.Tensor) -> None:
    """What a compiled graph calls: y gets what the step's adapters make of x, in place."""
    if (plan := layer.punica_wrapper.plan) is not None:
        adapted = _adapted(layer, x, y, plan)
        if adapted.data_ptr() != y.data_ptr():
            y.copy_(adapted)


def _adapted(layer: Any, x: torch.Tensor, y: torch.Tensor, plan: RowPlan) -> torch.Tensor:
    """The base's output ``y`` for ``x`` with the planned rows' adapters added."""
    rows = getattr(layer, _NATIVE)
    flat_y, flat_x = (y, x) if y.dim() == 2 else (y.flatten(0, -2), x.flatten(0, -2))
    if rows is None or flat_y.stride(1) != 1 or flat_x.stride(1) != 1 or flat_y.data_ptr() != y.data_ptr():
        adapted: torch.Tensor = layer._apply_lora_to_output(x, y)
        return adapted
    rows.add(flat_y, flat_x, plan)
    return y


def _embed(self: Any, x: torch.Tensor) -> torch.Tensor:
    """The embeddings of tokens; A is read for the rows of an adapter alone, where vLLM reads a row for every token."""
    y: torch.Tensor = self.base_layer.forward(x)
    if torch.compiler.is_compiling():
        compiling.call(y, x, getattr(self, _NUMBER))
    else:
        _add_embedding(self, y, x)
    return y


def _add_embedding(layer: Any, y: torch.Tensor, x: torch.Tensor) -> None:
    if (plan := layer.punica_wrapper.plan) is not None:
        low = rows_of_embedding(x.flatten(), layer.lora_a_stacked, plan)
        layer.punica_wrapper.add_lora_embedding(y.view(-1, y.shape[-1]), low, layer.lora_b_stacked)


def _created_embedding(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def create_lora_weights(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        setattr(self, _NUMBER, compiling.numbered(functools.partial(_add_embedding, self)))

    return create_lora_weights


def _linear_classes(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for kind in base.__subclasses__():
        yield from _linear_classes(kind)


def install() -> None:
    """Wrap every layer class of vLLM that adapters can change, where the platform is a CPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    # Its own module cannot be imported before the package.
    importlib.import_module("vllm.lora.layers")
    from vllm.lora.layers import VocabParallelEmbeddingWithLoRA
    from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA

    if getattr(BaseLinearLayerWithLoRA, "trivium_installed", False):
        return
    BaseLinearLayerWithLoRA.trivium_installed = True
    BaseLinearLayerWithLoRA.apply = _apply
    embedding = VocabParallelEmbeddingWithLoRA
    embedding.forward, embedding.create_lora_weights = _embed, _created_embedding(embedding.create_lora_weights)
    wrappers = {"create_lora_weights": _created, "set_lora": _written, "reset_lora": _reset}
    for kind in set(_linear_classes(BaseLinearLayerWithLoRA)):
        for name, wrapper in wrappers.items():
            if name in vars(kind):
                setattr(kind, name, wrapper(vars(kind)[name]))
