"""The processes that train one job together: which of them this is, what they share, and how parameters are divided.

One process is the ordinary case, and then nothing here does anything.  Of several each holds a part of every parameter,
gradient and moment (FSDP2, `torch.distributed.fsdp.fully_shard`, over gloo), and takes a part of every step's rows.
Invariants: all do the same steps in the same order, since what one waits for the others must send: so what can only be
known to one of them (a signal, the clock, a folder) is what the first says; and the first alone speaks and writes.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from services.trainer.solo.meeting import ADDRESS, PORT, RANK, SIZE

T = TypeVar("T")

# They rest together for as long as others have the cores, and whoever waits meanwhile must not give up.
_FOR_EVER = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of ``size`` processes this is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this one speaks and writes."""
        return self.rank == 0

    def said_by_first(self, value: T) -> T:
        """What the first has for a value."""
        if self.size == 1:
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    def total(self, value: float) -> float:
        """The sum over all."""
        if self.size == 1:
            return value
        summed = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(summed)
        return float(summed)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            distributed.barrier()

    def divided(self, rows: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        """A step's rows, part by part for each process: about as many tokens for each; some may have none."""
        if self.size == 1:
            return [list(rows)]
        ordered = sorted(rows, key=lambda row: (lengths[row], row))
        return [ordered[rank :: self.size] for rank in range(self.size)]

    def reseed(self, seed: int, step: int) -> None:
        """Draw from a generator of the step and of this process; alone, the job's own goes on.

        So nothing that the others drew has to be remembered.
        """
        if self.size > 1:
            torch.manual_seed((seed * 1_000_003 + step) * 1_009 + self.rank)

    def shard(self, model: Any) -> None:
        """Divide every parameter of the model among the processes, layer by layer; gradients become sums over all."""
        if self.size == 1:
            return
        mesh = distributed.init_device_mesh("cpu", (self.size,))
        repeated = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        for layer in [layer for layers in repeated for layer in layers] + [model]:
            distributed.fsdp.fully_shard(layer, mesh=mesh)
            # Each part's loss is divided by what the whole step counts, so they add up; gloo knows no mean.
            layer.set_gradient_divide_factor(1.0)
            layer.set_force_sum_reduction_for_comms(True)


ALONE = Ranks()


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all of it when it is divided: then every process must ask, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """All of each tensor, in the first process; none in the others, which only send their parts."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        all_of_it = whole(tensor)
        if ranks.first:
            found[name] = all_of_it
    return found


def own(tensor: Tensor) -> Tensor:
    """What this process has of the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor divided as ``pattern`` is, or as it is; every process has it already, so nothing is sent."""
    if not isinstance(pattern, DTensor):
        return tensor
    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements, src_data_rank=None)


def norm_after_clipping(parameters: Iterable[Tensor], bound: float) -> float:
    """Clip the gradients; return the norm before that, over all processes."""
    return float(whole(torch.nn.utils.clip_grad_norm_(parameters, bound)))


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meet the others, as the environment names them; inside the block they work together.

    The names are taken out of the environment: accelerate would find them and wrap the model in its own way.
    """
    rank, size, address, port = (os.environ.pop(name, "") for name in (RANK, SIZE, ADDRESS, PORT))
    if int(size or 1) == 1:
        yield ALONE
        return
    ranks = Ranks(int(rank), int(size))
    distributed.init_process_group(
        "gloo", init_method=f"tcp://{address}:{port}", rank=ranks.rank, world_size=ranks.size, timeout=_FOR_EVER
    )
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()
