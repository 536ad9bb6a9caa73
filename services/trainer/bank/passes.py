"""The rows of one joint pass: the tokens of all segments behind one another, without padding between jobs.

Invariant: a segment's rows, their order and what is computed at them follow from the segment alone; only where they
begin depends on its neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.trainer.bank.native import MEMBER, Kernels, Layer, Shape
from services.trainer.bank.slot import Slot
from services.trainer.data.examples import Example

# A pass has at least this many rows: below, MKL takes other fp32 kernels, whose rounding depends on the row count.
MIN_ROWS = 32
# Longest sequence that native code attends: its scores stay in a core's cache.
SHORT_TOKENS = 128
_WORD = (1 << 32) - 1


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
    `following`: those tokens; lengths: supervised tokens of each sequence of each segment; trains: if any segment does;
    recomputes: if its backward pass computes each layer again.
    """

    tokens: Tensor
    positions: Tensor
    bounds: tuple[int, ...]
    adapted: tuple[Rows, ...]
    predicting: Tensor
    following: Tensor
    lengths: tuple[tuple[int, ...], ...]
    trains: bool
    recomputes: bool
    plan: NativePlan | None
    short: ShortSequences | None


class NativePlan:
    """The adapted segments of a pass as native code reads them; it holds the slots that it points to."""

    def __init__(self, kernels: Kernels, adapted: Sequence[Rows]) -> None:
        self.kernels = kernels
        self._adapted = adapted
        self._members = np.array(
            [
                (
                    each.slot.weights.data_ptr(),
                    0,
                    each.slot.place_table.ctypes.data,
                    each.first,
                    each.last,
                    each.dropout_seed,
                    round((1.0 - each.slot.spec.dropout) * 2**32) if each.dropout_seed else 0,
                    1.0 / (1.0 - each.slot.spec.dropout),
                )
                for each in adapted
            ],
            dtype=MEMBER,
        )
        ranks = np.stack([each.slot.place_table["rank"] for each in adapted])
        rows = np.array([each.last - each.first for each in adapted])
        # Numbers in the low-rank rows of all segments, by layer.
        self.low_sizes: list[int] = (rows @ ranks).tolist()

    def layer(self, index: int, weight: Tensor) -> Layer:
        """A linear layer in this pass."""
        outputs, inputs = weight.shape
        return Layer(index, inputs, outputs, self._members.ctypes.data, len(self._members))

    def find_gradients(self) -> None:
        """Point to where the training slots' gradients are now: they are made and given back between passes."""
        self._members["gradient"] = [each.slot.gradients().data_ptr() if each.trains else 0 for each in self._adapted]


class ShortSequences:
    """The sequences of a pass that native code attends, and the `others`; a sequence's length alone decides."""

    def __init__(self, kernels: Kernels, bounds: Sequence[int]) -> None:
        self.kernels = kernels
        lengths = [last - first for first, last in itertools.pairwise(bounds)]
        self._bounds = np.array(bounds, dtype=np.int64)
        self._sequences = np.array(
            [index for index, length in enumerate(lengths) if length <= SHORT_TOKENS], dtype=np.int32
        )
        self._longest = max((length for length in lengths if length <= SHORT_TOKENS), default=0)
        self.others = [index for index, length in enumerate(lengths) if length > SHORT_TOKENS]

    def shape(self, query: Tensor, key: Tensor, scale: float) -> Shape:
        """As native code reads it: query [1, heads, rows, head], key [1, key heads, rows, head]."""
        _, heads, rows, size = query.shape
        return Shape(
            self._bounds.ctypes.data,
            self._sequences.ctypes.data,
            len(self._sequences),
            rows,
            heads,
            key.shape[1],
            size,
            self._longest,
            scale,
        )

    def takes(self, shape: Shape, window: int | None) -> bool:
        """Whether a layer of this shape, with this sliding window, is for native code."""
        return shape.count > 0 and (window is None or window >= SHORT_TOKENS)


def packed(segments: Sequence[Segment], kernels: Kernels | None, *, recomputes: bool = False) -> Pass:
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
    trains = any(segment.keeps_gradient for segment in segments)
    return Pass(
        torch.tensor([tokens]),
        torch.tensor([positions]),
        tuple(bounds),
        tuple(adapted),
        torch.tensor(predicting, dtype=torch.int64),
        torch.tensor(following, dtype=torch.int64),
        tuple(lengths),
        trains,
        trains and recomputes,
        NativePlan(kernels, adapted) if kernels and adapted else None,
        ShortSequences(kernels, bounds) if kernels else None,
    )


def dropout_mask(rows: Rows, module: int, inputs: int) -> Tensor:
    """What a layer keeps of a segment's input: fp32 [rows, inputs], 0 or 1/(1 - dropout).

    Element i is a number made of i and of two keys, which the seed and the layer give; adapters.cpp makes the same.  So
    a layer that is computed again keeps the same, and no mask is ever held.
    The mixing function is lowbias32 of the hash prospector (https://github.com/skeeto/hash-prospector).
    """
    keep = 1.0 - rows.slot.spec.dropout
    key = _spread(rows.dropout_seed + module)
    counters = torch.arange((rows.last - rows.first) * inputs) & _WORD
    numbers = _mixed((_mixed(counters ^ (key & _WORD)) + (key >> 32)) & _WORD)
    kept = (numbers < round(keep * 2**32)).float() * (1.0 / keep)
    return kept.view(-1, inputs)


def _mixed(bits: Tensor) -> Tensor:
    """Mix numbers of 32 bits, held as int64."""
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x7FEB352D) & _WORD
    bits = bits ^ (bits >> 15)
    bits = (bits * 0x846CA68B) & _WORD
    return bits ^ (bits >> 16)


def _spread(value: int) -> int:
    """Splitmix64: 64 well mixed bits of a number, to make keys of (https://prng.di.unimi.it/splitmix64.c)."""
    mask = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


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
