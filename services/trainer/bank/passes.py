"""The rows of one joint pass: the tokens of all segments behind one another, without padding between jobs.

Invariant: a segment's rows, their order and what is computed at them follow from the segment alone; only where they
begin depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from services.trainer.bank.slot import Slot
from services.trainer.data.examples import Example

# A pass has at least this many rows: below, MKL takes other fp32 kernels, whose rounding depends on the row count.
MIN_ROWS = 32


@dataclass(frozen=True, slots=True)
class Segment:
    """The sequences of one job in a pass.

    `slot` None is the bare base.  `keeps_gradient` says that the pass trains: dropout is drawn and log-probabilities
    carry a gradient; without it the segment is evaluated.
    """

    slot: Slot | None
    sequences: Sequence[Example]
    keeps_gradient: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """A segment's place in a pass: rows [first, last).  `dropout_seed` is 0 where nothing is dropped."""

    slot: Slot
    first: int
    last: int
    trains: bool
    dropout_seed: int


@dataclass(frozen=True, slots=True)
class Pass:
    """One joint pass.

    tokens, positions: int64 [1, rows]; bounds: first row of each sequence and the end of the last, dummy included;
    adapted: the segments that have a slot; predicting: int64 [supervised], the rows whose next token is supervised,
    `following`: those tokens; lengths: supervised tokens of each sequence of each segment; trains: if any segment does.
    """

    tokens: Tensor
    positions: Tensor
    bounds: tuple[int, ...]
    adapted: tuple[Rows, ...]
    predicting: Tensor
    following: Tensor
    lengths: tuple[tuple[int, ...], ...]
    trains: bool
    # What native code made of the pass, per set of linear layers; owned by lora.py.
    plans: dict[int, object] = field(default_factory=dict)


def packed(segments: Sequence[Segment]) -> Pass:
    """Lay segments out, drawing each training slot's dropout seed from its own generator.  Raises ValueError."""
    _check(segments)
    tokens: list[int] = []
    positions: list[int] = []
    bounds = [0]
    predicting: list[int] = []
    following: list[int] = []
    adapted, lengths = [], []
    for segment in segments:
        first = len(tokens)
        counts = []
        for example in segment.sequences:
            begin = len(tokens)
            tokens.extend(example.tokens)
            positions.extend(range(len(example.tokens)))
            bounds.append(len(tokens))
            learned = [index for index, said in enumerate(example.supervised) if said and index > 0]
            predicting.extend(begin + index - 1 for index in learned)
            following.extend(example.tokens[index] for index in learned)
            counts.append(len(learned))
        lengths.append(tuple(counts))
        if segment.slot is not None:
            seed = _dropout_seed(segment)
            adapted.append(Rows(segment.slot, first, len(tokens), segment.keeps_gradient, seed))
    if (missing := MIN_ROWS - len(tokens)) > 0:
        tokens.extend([0] * missing)
        positions.extend(range(missing))
        bounds.append(len(tokens))
    return Pass(
        torch.tensor([tokens]),
        torch.tensor([positions]),
        tuple(bounds),
        tuple(adapted),
        torch.tensor(predicting, dtype=torch.int64),
        torch.tensor(following, dtype=torch.int64),
        tuple(lengths),
        any(segment.keeps_gradient for segment in segments),
    )


def dropout_mask(rows: Rows, module: int, inputs: int) -> Tensor:
    """What a layer keeps of a segment's input: fp32 [rows, inputs], 0 or 1/(1 - dropout).

    It follows from the seed and the layer, so that a checkpointed layer draws the same again.
    """
    keep = 1.0 - rows.slot.spec.dropout
    generator = torch.Generator().manual_seed(rows.dropout_seed + module)
    return torch.empty(rows.last - rows.first, inputs).bernoulli_(keep, generator=generator).div_(keep)


def _dropout_seed(segment: Segment) -> int:
    slot = segment.slot
    if slot is None or not segment.keeps_gradient or slot.spec.dropout == 0.0:
        return 0
    return int(torch.randint(1, 1 << 62, (1,), generator=slot.generator))


def _check(segments: Sequence[Segment]) -> None:
    if not segments:
        raise ValueError("a pass needs at least one segment")
    training = [id(segment.slot) for segment in segments if segment.keeps_gradient and segment.slot is not None]
    if len(set(training)) != len(training):
        raise ValueError("a slot trains in one segment of a pass; put its sequences together")
    for segment in segments:
        if segment.keeps_gradient and segment.slot is None:
            raise ValueError("the bare base keeps no gradient; name the slot that trains")
        if not segment.sequences:
            raise ValueError("a segment needs at least one sequence")
        if not all(example.tokens for example in segment.sequences):
            raise ValueError("a sequence needs at least one token")
