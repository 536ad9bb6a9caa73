"""Products of rows and weights in which a row's bits are its own.

oneDNN and MKL choose by the number of rows how they split a sum, on processors with AMX often: the same row of bfloat16
or float32 then has other bits in larger company.  For one number of rows they do the same at every row.  So rows are
multiplied a block at a time, and the sizes of blocks are those that are seen to give the same bits here.
Invariant: a row of a product follows from that row, the weights and the thread count alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Rows of a block.  All others must give the bits of the reference, which is large enough to cost little a row and small
# enough to hold a block's logits in memory.
_REFERENCE = 256
_SIZES = (16, 32, 64, 96, 128, 192, _REFERENCE, 512)
# With AMX, bfloat16 is multiplied this many elements of a sum at a time.  Where a row does not divide into them, what
# is left over is taken together with the beginning of the next row, that part times zero.
_AT_ONCE = 32
# What MKL wants of addresses for results that can be repeated; torch allocates so, parts of tensors may lie elsewhere.
_ALIGNMENT_BYTES = 64
# Different columns of the matrix that sizes of blocks are tried out with.
_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a library may choose by, the number of rows apart."""

    inner: int
    outer: int
    dtype: torch.dtype
    transposed: bool
    has_bias: bool
    threads: int


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`rows` [rows, inputs] times the transpose of `weight` [outputs, inputs], and `bias` [outputs]: [rows, outputs].

    All of one dtype; no gradient goes through.  Raises RuntimeError, as torch does, for shapes that do not fit.
    """
    return _product(rows, weight.t(), bias, transposed=True)


def backward(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `linear`'s rows, [rows, inputs], of its output's, [rows, outputs].  Raises as `linear`."""
    return _product(gradient, weight, None, transposed=False)


def _product(rows: Tensor, matrix: Tensor, bias: Tensor | None, *, transposed: bool) -> Tensor:
    """`rows` [rows, inner] times `matrix` [inner, outer]; `transposed` says how the matrix lies in memory."""
    if rows.device.type != "cpu":
        return torch.mm(rows, matrix) if bias is None else torch.addmm(bias, rows, matrix)
    rows, broken = _without_broken(_aligned(rows))
    output = rows.new_empty(rows.shape[0], matrix.shape[1])
    kind = _Kind(matrix.shape[0], matrix.shape[1], rows.dtype, transposed, bias is not None, torch.get_num_threads())
    first = 0
    for size in sizes_of_blocks(rows.shape[0], _sizes_with_the_same_bits(kind)):
        last = min(first + size, rows.shape[0])
        _multiply(rows[first:last], matrix, bias, output[first:last], size)
        first = last
    return output if broken is None else output.masked_fill_(broken, float("nan"))


def _multiply(rows: Tensor, matrix: Tensor, bias: Tensor | None, output: Tensor, size: int) -> None:
    """One block, filled up with zeros to `size` rows, into `output`."""
    count = rows.shape[0]
    if count < size:
        rows, target = functional.pad(rows, (0, 0, 0, size - count)), output.new_empty(size, matrix.shape[1])
    else:
        target = output
    if bias is None:
        torch.mm(rows, matrix, out=target)
    else:
        torch.addmm(bias, rows, matrix, out=target)
    if target is not output:
        output.copy_(target[:count])


def sizes_of_blocks(count: int, sizes: Sequence[int]) -> list[int]:
    """Blocks, of `sizes` in ascending order, that hold `count` rows; of the last one some rows may be left over."""
    found = []
    for size in (size for size in reversed(sizes) if size >= _REFERENCE):
        found += [size] * (count // size)
        count %= size
    return [*found, next(size for size in sizes if size >= count)] if count else found


@functools.cache
def _sizes_with_the_same_bits(kind: _Kind) -> tuple[int, ...]:
    """The sizes of blocks that give each row the bits of a block of the reference, tried out with this many threads."""
    most = max(_SIZES)
    rows, matrix = _cancelling(most, kind)
    bias = torch.zeros(kind.outer, dtype=kind.dtype) if kind.has_bias else None

    def product(tried: Tensor, size: int) -> Tensor:
        output = tried.new_empty(len(tried), kind.outer)
        for part, target in zip(tried.split(size), output.split(size), strict=True):
            _multiply(part, matrix, bias, target, size)
        return output

    def agrees(size: int) -> bool:
        # Two blocks show that the place of a block among the rows is nothing to it.
        tried = rows[: min(2 * size, most)]
        return bool(torch.equal(product(tried, size), expected[: len(tried)]))

    expected = product(rows, _REFERENCE)
    return tuple(size for size in _SIZES if size == _REFERENCE or agrees(size))


def _cancelling(count: int, kind: _Kind) -> tuple[Tensor, Tensor]:
    """Rows [count, inner] and a matrix [inner, outer] whose product is zero but for what rounding leaves.

    Every product of two numbers is there twice, once negative, at a random place: what is left is another number for
    another order of summing.  Of ordinary rows bfloat16 would show one difference in twenty thousand numbers.
    """
    generator = torch.Generator().manual_seed(0)
    half = kind.inner // 2
    ones, others = torch.randperm(kind.inner, generator=generator)[: 2 * half].split(half)
    numbers = torch.randn(count, half, generator=generator).to(kind.dtype)
    rows = torch.zeros(count, kind.inner, dtype=kind.dtype)
    rows[:, ones], rows[:, others] = numbers, -numbers
    # The other way round: a column a row, to be repeated up to the outer width.
    columns = torch.zeros(min(_COLUMNS, kind.outer), kind.inner, dtype=kind.dtype)
    columns[:, ones] = columns[:, others] = torch.randn(len(columns), half, generator=generator).to(kind.dtype)
    weight = columns.repeat(math.ceil(kind.outer / len(columns)), 1)[: kind.outer].contiguous()
    return rows, weight.t() if kind.transposed else weight.t().contiguous()


def _aligned(rows: Tensor) -> Tensor:
    rows = rows.contiguous()
    return rows if rows.data_ptr() % _ALIGNMENT_BYTES == 0 else rows.clone()


def _without_broken(rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows in which no number is missing, and which [rows, 1] were emptied for it, where these would spoil others."""
    if rows.shape[1] % _AT_ONCE == 0:
        return rows, None
    broken = ~rows.isfinite().all(dim=1, keepdim=True)
    return (rows.masked_fill(broken, 0.0), broken) if broken.any() else (rows, None)
