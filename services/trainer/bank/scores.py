"""Log-probabilities of supervised tokens, without ever holding their logits.

The gradient with respect to the hidden state is computed in the forward pass, a block of rows over the whole
vocabulary at a time, and scaled by what comes from above in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.chassis import products
from services.trainer.bank.elementwise import in_whole_vectors
from services.trainer.formulas import Logits

# Rows whose logits are held at once: of 256 over 49,152 tokens they take 48 MiB in fp32.
_BLOCK_ROWS = 256
_PLAIN = Logits()


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model says of a segment.

    `log_probs`: fp32 [supervised tokens], sequence after sequence; `lengths`: how many belong to each sequence.
    """

    log_probs: Tensor
    lengths: list[int]


def log_probs(
    hidden: Tensor, following: Tensor, weight: Tensor, bias: Tensor | None, logits: Logits = _PLAIN, *, trains: bool
) -> Tensor:
    """Log-probability of each token of `following` [tokens] after the row of `hidden` [tokens, width]; fp32 [tokens].

    weight: [vocabulary, width]; `logits` says what becomes of their product.  With `trains` the gradient reaches `hidden`.
    """
    if not following.numel():
        # Nothing is supervised: an empty tensor that a loss may still be taken of.
        return hidden.sum(dim=1).float()
    found: Tensor = _LogProbs.apply(hidden, following, weight, bias, logits, trains)
    return found


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        following: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        how: Logits,
        trains: bool,
    ) -> Tensor:
        count = hidden.shape[0]
        found = torch.empty(count, dtype=torch.float32, device=hidden.device)
        slopes = torch.empty_like(hidden) if trains else None
        for first in range(0, count, _BLOCK_ROWS):
            last = min(first + _BLOCK_ROWS, count)
            logits = _scaled(products.linear(hidden[first:last], weight, bias).float(), how)
            chances = torch.log_softmax(logits, dim=-1)
            # At once: nothing that is not needed is held while the next block is multiplied.
            bent = _bend(logits, how) if trains else None
            del logits
            targets = following[first:last, None]
            found[first:last] = chances.gather(1, targets)[:, 0]
            if slopes is not None:
                # d log p / d logits: one at the token itself, less the probability of every token.
                rising = chances.exp_().neg_()
                rising.scatter_add_(1, targets, torch.ones_like(targets, dtype=torch.float32))
                if bent is not None:
                    rising.mul_(bent)
                if how.scale != 1.0:
                    rising.mul_(how.scale)
                slopes[first:last] = products.backward(rising.to(weight.dtype), weight)
        ctx.save_for_backward(slopes)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return (slopes.float() * gradient[:, None]).to(slopes.dtype), None, None, None, None, None


def _scaled(multiplied: Tensor, how: Logits) -> Tensor:
    """Logits, of products of hidden states and output weights, [rows, vocabulary] fp32, which they replace."""
    if how.scale != 1.0:
        multiplied *= how.scale
    if how.cap is None:
        return multiplied
    # A row's place in the block is its neighbours' doing.
    return in_whole_vectors(torch.tanh, multiplied.div_(how.cap)).mul_(how.cap)


def _bend(logits: Tensor, how: Logits) -> Tensor | None:
    """The derivative of logits by what was capped, which replaces them; None where nothing is."""
    return None if how.cap is None else logits.div_(how.cap).square_().neg_().add_(1.0)
