"""One linear layer with the adapters of a pass: the base's product, and each segment's low-rank product beside it.

As PEFT computes it: the base in its own dtype, the adapter in fp32 from the same input, their sum rounded once to the
base's dtype.  Gradients of A and B go straight into the slots' vectors.  Invariant: no product of a segment has a
shape that depends on another segment; the base's own products are in blocks in which a row's bits are its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from services.chassis import products
from services.trainer.bank.passes import Pass, Rows, dropout_mask


def adapted_linear(x: Tensor, weight: Tensor, bias: Tensor | None, module: int, running: Pass) -> Tensor:
    """The layer's output [..., outputs] for `x` [..., inputs], whose rows are those of `running`."""
    output: Tensor = _AdaptedLinear.apply(x.reshape(-1, x.shape[-1]).contiguous(), weight, bias, module, running)
    return output.view(*x.shape[:-1], weight.shape[0])


class _AdaptedLinear(torch.autograd.Function):
    """`rows` [rows, inputs], frozen `weight` [outputs, inputs]; the gradient is of `rows` alone."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, module: int, running: Pass) -> Tensor:
        output = products.linear(rows, weight, bias)
        ctx.weight, ctx.module, ctx.running = weight, module, running
        ctx.adapted = any(module in each.slot.places for each in running.adapted)
        if ctx.adapted:
            ctx.save_for_backward(rows, _add_products(output, rows, weight, module, running))
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient = gradient.contiguous()
        of_rows = products.backward(gradient, ctx.weight)
        if not ctx.adapted:
            return of_rows, None, None, None, None
        rows, low = ctx.saved_tensors
        plan = ctx.running.plan
        if plan is None:
            for each in ctx.running.adapted:
                if each.trains and ctx.module in each.slot.places:
                    _add_gradients(of_rows, rows, gradient, each, ctx.module)
        else:
            plan.find_gradients()
            layer = plan.layer(ctx.module, ctx.weight)
            half = rows.dtype is torch.bfloat16
            plan.kernels.backward(layer, rows, gradient, low, torch.empty_like(low), of_rows, half=half)
        return of_rows, None, None, None, None


def _add_products(output: Tensor, rows: Tensor, weight: Tensor, module: int, running: Pass) -> Tensor | None:
    """Add each segment's product to `output` [rows, outputs].  Returns what native code needs in the backward pass."""
    if running.plan is not None:
        low = torch.empty(running.plan.low_sizes[module], dtype=torch.float32)
        half = rows.dtype is torch.bfloat16
        running.plan.kernels.forward(running.plan.layer(module, weight), rows, output, low, half=half)
        return low
    for each in running.adapted:
        if module in each.slot.places:
            _, low = _low(rows, each, module)
            scale = each.slot.places[module][1].scale
            _, up = each.slot.matrices(module, each.slot.weights)
            part = output[each.first : each.last]
            part.copy_(part.float() + low @ up * scale)
    return None


def _low(rows: Tensor, each: Rows, module: int) -> tuple[Tensor, Tensor]:
    """A segment's input in fp32 after dropout, [rows, inputs], and its product with A, [rows, rank]."""
    down, _ = each.slot.matrices(module, each.slot.weights)
    # A copy even where nothing is converted: how its first row is aligned must not depend on the rows before it.
    x = rows[each.first : each.last].to(torch.float32, copy=True)
    if each.dropout_seed:
        x = x * dropout_mask(each, module, x.shape[1])
    return x, x @ down.t()


def _add_gradients(of_rows: Tensor, rows: Tensor, gradient: Tensor, each: Rows, module: int) -> None:
    """Add a segment's part to the gradient of its input, [rows, inputs], and to its slot's gradients of A and B."""
    down, up = each.slot.matrices(module, each.slot.weights)
    of_down, of_up = each.slot.matrices(module, each.slot.gradients())
    x, low = _low(rows, each, module)
    scale = each.slot.places[module][1].scale
    incoming = gradient[each.first : each.last].to(torch.float32, copy=True) * scale
    of_up += low.t() @ incoming
    of_low = incoming @ up.t()
    of_down += of_low.t() @ x
    added = of_low @ down
    if each.dropout_seed:
        added *= dropout_mask(each, module, x.shape[1])
    part = of_rows[each.first : each.last]
    part.copy_(part.float() + added)
