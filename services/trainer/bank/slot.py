"""One adapter in the bank: its weights, its optimizer's moments, its generator.

A slot owns flat fp32 vectors of exactly its own size (no rank is padded), in which layer follows layer in the base's
order, A [rank, inputs] before B.  B lies transposed, [rank, outputs], so that the ranks of both are rows.
Invariant: `tensors` is all that later steps depend on, and says nothing of the bank that it was taken from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from services.trainer.bank.native import PLACE
from services.trainer.bank.spec import Initialisation, SlotSpec, Target
from services.trainer.peft_layout import adapter_weight


class GradientPool:
    """Gradients' vectors that no slot needs at the moment, all zeros: fresh memory costs more than the sums in it."""

    def __init__(self) -> None:
        self._free: dict[int, list[Tensor]] = {}

    def take(self, like: Tensor) -> Tensor:
        """Zeros of the size of `like`."""
        free = self._free.get(like.numel())
        return free.pop() if free else torch.zeros_like(like)

    def give(self, zeros: Tensor) -> None:
        """Take back what holds zeros again."""
        self._free.setdefault(zeros.numel(), []).append(zeros)

    def clear(self) -> None:
        """Free all of it."""
        self._free.clear()


class Slot:
    """An adapter in training.  Made by `Bank.open`; its tensors belong to it until it is closed."""

    def __init__(
        self,
        spec: SlotSpec,
        targets: tuple[Target, ...],
        *,
        layers: int,
        pool: GradientPool,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self._pool = pool
        self.targets = targets
        self.parameters = sum(target.parameters for target in targets)
        self.step = 0
        self.generator = torch.Generator().manual_seed(spec.seed)
        self.weights = torch.zeros(self.parameters, device=device)
        self.first_moment = torch.zeros_like(self.weights)
        self.second_moment = torch.zeros_like(self.weights)
        # Only between a backward pass and the update that uses it up.
        self.gradient: Tensor | None = None
        # Where a layer begins in the vectors, and the layer, by its index in the bank.
        self.places: dict[int, tuple[int, Target]] = {}
        # The same as native code reads it, [linear layers of the base]; rank 0 where nothing is adapted.
        self.place_table = np.zeros(layers, dtype=PLACE)
        first = 0
        for target in targets:
            self.places[target.module] = (first, target)
            self.place_table[target.module] = (first, target.rank, target.scale)
            first += target.parameters
        self._initialise()

    @property
    def layout(self) -> tuple[tuple[str, int, int, int], ...]:
        """Name, inputs, outputs and rank of each adapted layer, in the order in which they lie in the vectors."""
        return tuple((target.name, target.inputs, target.outputs, target.rank) for target in self.targets)

    def matrices(self, module: int, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Views of A [rank, inputs] and of B transposed [rank, outputs] in one of the slot's vectors."""
        first, target = self.places[module]
        middle = first + target.rank * target.inputs
        end = first + target.parameters
        return flat[first:middle].view(target.rank, target.inputs), flat[middle:end].view(target.rank, target.outputs)

    def gradients(self) -> Tensor:
        """The gradient's vector, zeros if nothing was added since the last update."""
        if self.gradient is None:
            self.gradient = self._pool.take(self.weights)
        return self.gradient

    def use_gradient_up(self) -> None:
        """Give the gradient's memory back; it holds zeros."""
        if self.gradient is not None:
            self._pool.give(self.gradient)
            self.gradient = None

    def discard_gradient(self) -> None:
        """Forget what backward passes have added since the last update."""
        self.gradient = None

    def tensors(self) -> dict[str, Tensor]:
        """All that later steps depend on, apart from a gradient that waits for its update.

        `weights`, `first_moment`, `second_moment`: fp32 [parameters]; `step`: int64 []; `generator`: uint8.  They are
        the slot's own and change with its next update: clone what is to be kept.
        """
        return {
            "weights": self.weights,
            "first_moment": self.first_moment,
            "second_moment": self.second_moment,
            "step": torch.tensor(self.step),
            "generator": self.generator.get_state(),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where `tensors` was called, of a slot with the same spec.

        Copies.  Raises KeyError for a tensor that is missing, ValueError for one of another size.
        """
        vectors = {"weights": self.weights, "first_moment": self.first_moment, "second_moment": self.second_moment}
        for name, vector in vectors.items():
            if tensors[name].shape != vector.shape or tensors[name].dtype != vector.dtype:
                raise ValueError(f"{name} is not of an adapter with these settings on this base")
        self.generator.set_state(tensors["generator"])
        self.step = int(tensors["step"])
        for name, vector in vectors.items():
            vector.copy_(tensors[name])
        self.gradient = None

    def adapter(self) -> dict[str, Tensor]:
        """The weights with PEFT's names and shapes: fp32 copies, A [rank, inputs] and B [outputs, rank]."""
        found = {}
        for target in self.targets:
            down, up = self.matrices(target.module, self.weights)
            found[adapter_weight(target.name, "A")] = down.clone()
            found[adapter_weight(target.name, "B")] = up.t().clone(memory_format=torch.contiguous_format)
        return found

    def load_adapter(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin with the weights of an adapter in PEFT's names and shapes; moments and step stay as they are.

        Raises ValueError, with a sentence, unless it adapts the same layers with the same ranks.
        """
        wanted = {
            adapter_weight(target.name, part): shape
            for target in self.targets
            for part, shape in (("A", (target.rank, target.inputs)), ("B", (target.outputs, target.rank)))
        }
        if missing := sorted(wanted.keys() - tensors.keys()):
            raise ValueError(f"the adapter to continue from has no {missing[0]}; continue with its own target modules")
        if extra := sorted(tensors.keys() - wanted.keys()):
            raise ValueError(f"the adapter to continue from also has {extra[0]}; continue with its own target modules")
        for name, shape in wanted.items():
            if tuple(tensors[name].shape) != shape:
                found = "x".join(str(size) for size in tensors[name].shape)
                size = "x".join(str(size) for size in shape)
                raise ValueError(f"{name} of the adapter to continue from is {found}, not {size}: give its own rank")
            if not bool(torch.isfinite(tensors[name]).all()):
                raise ValueError(f"{name} of the adapter to continue from is not finite; take an earlier version")
        for target in self.targets:
            down, up = self.matrices(target.module, self.weights)
            down.copy_(tensors[adapter_weight(target.name, "A")])
            up.copy_(tensors[adapter_weight(target.name, "B")].t())

    def _initialise(self) -> None:
        for target in self.targets:
            down, up = self.matrices(target.module, self.weights)
            if self.spec.initialisation is Initialisation.KAIMING:
                down.copy_(_kaiming(down.shape, self.generator))
            elif self.spec.initialisation is Initialisation.GAUSSIAN:
                down.copy_(torch.randn(down.shape, generator=self.generator) / target.rank)
            else:
                first, second = _orthogonal(target, self.generator)
                down.copy_(first)
                up.copy_(second)


def _kaiming(shape: torch.Size, generator: torch.Generator) -> Tensor:
    drawn = torch.empty(shape)
    nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
    return drawn


def _orthogonal(target: Target, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A [rank, inputs] and B transposed, with B A = 0: they use the odd and the even rows of a random rotation.

    As PEFT's `init_lora_weights="orthogonal"` (https://datta0.github.io/posts/rethink-lora-init).
    """
    half = target.rank // 2
    rotation, _ = torch.linalg.qr(torch.randn(target.rank, target.rank, generator=generator))
    down = (torch.randn(target.inputs, half, generator=generator) @ rotation[0::2]).t() / 10.0
    up = rotation[1::2].t() @ torch.randn(half, target.outputs, generator=generator) / 10.0
    return down, up
