"""The bank: the base with its linear layers wrapped once, and the verbs of joint training.

Invariant: the base's own weights never change, and outside of a pass it is the model that it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from services.trainer.bank import attention, spec, updates
from services.trainer.bank.elementwise import activations, in_whole_vectors
from services.trainer.bank.lora import adapted_linear
from services.trainer.bank.native import kernels
from services.trainer.bank.passes import Pass, Segment, packed
from services.trainer.bank.scores import Scores, log_probs
from services.trainer.bank.slot import GradientPool, Slot
from services.trainer.bank.spec import SlotSpec
from services.trainer.bank.updates import Update
from services.trainer.formulas import logits_of, unjoinable
from services.trainer.modules import module_names


class Bank:
    """One frozen base and the adapters that train on it.  Not for several threads at once.

    `base` is a transformers causal LM in bf16 or fp32 whose attention goes through `AttentionInterface`; the bank takes
    it over.  `uses_kernels` False, a base that is not on the CPU, or a machine without a compiler: torch computes what native
    code would, to rounding, and slower.  Raises ValueError for a base that it cannot train.
    """

    def __init__(self, base: Any, *, uses_kernels: bool = True) -> None:
        _check(base)
        attention.register()
        self._base = base
        self._layers = spec.linear_layers(base)
        if not self._layers:
            raise ValueError(f"{type(base).__name__} has no linear layers to adapt")
        self._logits = logits_of(base.config.get_text_config().to_dict())
        self._slots: list[Slot] = []
        self._pool = GradientPool()
        self._kernels = kernels() if _fits_kernels(base) and uses_kernels else None
        self._running: Pass | None = None
        self._alone: Slot | None = None
        base.requires_grad_(False)
        base.eval()
        for index, layer in enumerate(self._layers.values()):
            layer.forward = partial(self._linear, index, layer)
        for activation in activations(base):
            activation.forward = partial(self._activation, activation.forward)
        self._recomputable = [module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots that are open."""
        return tuple(self._slots)

    @property
    def is_native(self) -> bool:
        """Whether native code does the adapters' part; without it steps take several times as long."""
        return self._kernels is not None

    def open(self, wanted: SlotSpec) -> Slot:
        """A new adapter, initialised.  Raises ValueError, with a sentence, for what does not fit the base."""
        found = spec.targets(wanted, self._layers)
        slot = Slot(wanted, found, layers=len(self._layers), pool=self._pool, device=self._base.device)
        self._slots.append(slot)
        return slot

    def close(self, slot: Slot) -> None:
        """Forget a slot.  Raises ValueError if it is not open here."""
        if not any(each is slot for each in self._slots):
            raise ValueError("the slot is not open in this bank")
        self._slots = [each for each in self._slots if each is not slot]
        # Sizes that no slot has any more would stay for ever.
        self._pool.clear()

    def adapter_config(self, slot: Slot, base_name: str = "") -> dict[str, Any]:
        """PEFT's adapter_config of a slot, as plain JSON values; all linear layers are written out by name."""
        config = spec.adapter_config(slot.spec, base_name)
        if not slot.spec.target_modules:
            config["target_modules"] = list(module_names(self._layers))
        return config

    def score(self, segments: Sequence[Segment], *, recomputes: bool = False) -> list[Scores]:
        """One joint forward pass.  Returns a `Scores` a segment, in order.

        With `recomputes` the backward pass computes each layer again: the activations of one layer at a time are held
        instead of all layers', for about a third more arithmetic; the numbers are the same.
        Raises ValueError for a segment without sequences, a slot that trains in two segments or is not open here.
        """
        if any(segment.slot is not None and segment.slot not in self._slots for segment in segments):
            raise ValueError("a segment's slot is not open in this bank")
        running = packed(segments, self._kernels, recomputes=recomputes)
        head = self._base.get_output_embeddings()
        with torch.set_grad_enabled(running.trains):
            hidden = self._hidden(running)
            chosen = hidden[0].index_select(0, running.predicting)
            found = log_probs(chosen, running.following, head.weight, head.bias, self._logits, trains=running.trains)
            parts = found.split([sum(lengths) for lengths in running.lengths])
        return [
            Scores(part if segment.keeps_gradient else part.detach(), list(lengths))
            for segment, part, lengths in zip(segments, parts, running.lengths, strict=True)
        ]

    def backward(self, losses: Sequence[Tensor]) -> None:
        """Add each loss's gradient (scalars of one pass) to its slot, until the slot's next update."""
        torch.stack(list(losses)).sum().backward()

    def update(self, wanted: Sequence[Update]) -> list[float]:
        """Clip and step each slot by itself.  Returns the gradients' norms before clipping.

        A slot whose norm is not finite is left as it was; its gradient is gone either way.
        """
        with torch.no_grad():
            return [updates.apply(update, self._kernels) for update in wanted]

    @contextmanager
    def only(self, slot: Slot | None) -> Iterator[Any]:
        """Inside the block the base is an ordinary model with this one adapter (None: none), to generate with."""
        self._alone = slot
        try:
            with torch.no_grad():
                yield self._base
        finally:
            self._alone = None

    def _hidden(self, running: Pass) -> Tensor:
        """The base's last hidden state, [1, rows, width]."""
        embedded = self._base.get_input_embeddings()(running.tokens)
        # The first layer's adapters are reached through a gradient of its input.
        embedded.requires_grad_(running.trains)
        with self._inside(running):
            output: Tensor = self._base.get_decoder()(
                inputs_embeds=embedded, position_ids=running.positions, use_cache=False, running_pass=running
            ).last_hidden_state
        return output

    @contextmanager
    def _inside(self, running: Pass) -> Iterator[None]:
        before = self._base.config._attn_implementation
        self._base.config._attn_implementation = attention.NAME
        self._running = running
        self._set_recomputing(partial(self._recomputed, running) if running.recomputes else None)
        try:
            yield
        finally:
            self._running = None
            self._set_recomputing(None)
            self._base.config._attn_implementation = before

    def _set_recomputing(self, function: Any) -> None:
        for layer in self._recomputable:
            layer.gradient_checkpointing = function is not None
            layer._gradient_checkpointing_func = function
            # The flag of this one module, not of what it holds: nothing else may behave as in training.
            layer.training = function is not None

    def _recomputed(self, running: Pass, layer: Any, *inputs: Any) -> Any:
        return checkpoint(partial(self._again, running, layer), *inputs, use_reentrant=False, preserve_rng_state=False)

    def _again(self, running: Pass, layer: Any, *inputs: Any) -> Any:
        if self._running is running:
            return layer(*inputs)
        with self._inside(running):
            return layer(*inputs)

    def _activation(self, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return own(x) if self._running is None else in_whole_vectors(own, x)

    def _linear(self, index: int, layer: nn.Linear, x: Tensor) -> Tensor:
        if self._running is not None:
            return adapted_linear(x, layer.weight, layer.bias, index, self._running)
        output = nn.functional.linear(x, layer.weight, layer.bias)
        if self._alone is None or index not in self._alone.places:
            return output
        down, up = self._alone.matrices(index, self._alone.weights)
        scale = self._alone.places[index][1].scale
        return (output.float() + x.float() @ down.t() @ up * scale).to(output.dtype)


def _fits_kernels(base: Any) -> bool:
    return base.device.type == "cpu" and base.dtype in (torch.bfloat16, torch.float32)


def _check(base: Any) -> None:
    if not getattr(base, "_supports_attention_backend", False):
        raise ValueError(f"{type(base).__name__} brings its own attention, which cannot be shared between jobs")
    if problem := unjoinable(base.config.get_text_config().to_dict()):
        raise ValueError(problem)
    if base.get_output_embeddings() is None:
        raise ValueError(f"{type(base).__name__} has no output head; give a causal language model")
