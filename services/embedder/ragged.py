"""Sequences of any lengths end to end in one row, so that no padding is computed.

What a layer does row by row is done to all tokens at once; attention alone must know where a
sequence ends, and goes through transformers' `AttentionInterface`, which builds no masks for a
name that is not its own.  Invariant: a sequence attends to itself alone, in a shape that
follows from its own length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from services.embedder.batching import TokenIds
from services.embedder.model import COUNTED_FROM_PADDING

NAME = "trivium_ragged"
# Kinds of encoders whose layers see a token's place by its position's embedding alone, and take positions as given.
_KINDS = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})


@dataclass(frozen=True, slots=True)
class Span:
    """`count` sequences of `length` tokens each, from the row's token `first` on."""

    first: int
    count: int
    length: int

    @property
    def last(self) -> int:
        """The token behind."""
        return self.first + self.count * self.length


@dataclass(frozen=True, slots=True)
class Row:
    """Sequences end to end, by length: `order` holds their places in the batch; `ids` and `positions` are [1, tokens]."""

    order: tuple[int, ...]
    spans: tuple[Span, ...]
    ids: Tensor
    positions: Tensor


def takes(config: Any) -> bool:
    """Whether a model of this configuration computes rows of many sequences."""
    return config.model_type in _KINDS and getattr(config, "position_embedding_type", "absolute") == "absolute"


def first_position(config: Any) -> int:
    """The position of a sequence's first token."""
    return int(config.pad_token_id or 0) + 1 if config.model_type in COUNTED_FROM_PADDING else 0


def row_of(sequences: Sequence[TokenIds], first: int) -> Row:
    """The sequences as one row, whose positions begin at `first`."""
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    spans: list[Span] = []
    for place in order:
        length = len(sequences[place])
        if spans and spans[-1].length == length:
            spans[-1] = Span(spans[-1].first, spans[-1].count + 1, length)
        else:
            spans.append(Span(spans[-1].last if spans else 0, 1, length))
    ids = torch.tensor([[token for place in order for token in sequences[place]]])
    positions = torch.cat([torch.arange(first, first + span.length).repeat(span.count) for span in spans])
    return Row(tuple(order), tuple(spans), ids, positions.unsqueeze(0))


def register() -> None:
    """Make the name known to transformers."""
    AttentionInterface.register(NAME, attend)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    spans: Sequence[Span],
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention inside each sequence.  query, key, value: [1, heads, tokens, head].  Returns [1, tokens, heads, head]."""
    heads, tokens, size = query.shape[1:]
    output = query.new_empty(tokens, heads, size)
    for span in spans:
        parts = [_sequences(tensor, span) for tensor in (query, key, value)]
        found = functional.scaled_dot_product_attention(*parts, scale=scaling)
        output[span.first : span.last].view(span.count, span.length, heads, size).copy_(found.transpose(1, 2))
    return output.unsqueeze(0), None


def _sequences(tensor: Tensor, span: Span) -> Tensor:
    """The part of [1, heads, tokens, head] that a span is: [count, heads, length, head]."""
    heads, _, size = tensor.shape[1:]
    return tensor[0, :, span.first : span.last].view(heads, span.count, span.length, size).transpose(0, 1)
