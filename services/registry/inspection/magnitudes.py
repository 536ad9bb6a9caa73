"""How large an adapter's numbers may be: so large that no sum or product of them leaves float32 and bfloat16.

With a and b the largest magnitudes in A and B, s the scale and r the rank, an adapter changes an output by at most
s·r·a·b times the sum of its inputs' magnitudes.  What a normalised state feeds (attention, gate, up, the head) sums to
at most 2^16 numbers times a norm's weight of 2^6, so with s·r·a·b under 2^18 these outputs stay under 2^40, attention's
scores under 2^92, gate times up under 2^80, and what down_proj makes of 2^18 of those under 2^116: 512 layers of that
add up to 2^125, under the 2^128 at which numbers are infinite and answers become NaN.

This says nothing of engines that compute in float16, whose numbers end at 65504, under 2^16.  Which type an engine
computes in is the generator's setting ``dtype`` (bfloat16 unless set), not the base's: a base stored in float16 is
served in bfloat16 too, and the same version may meet generators of either kind, so the base's type tells nothing at the
door.  Nor would a bound help: the same reckoning leaves s·r·a·b 2^-6 (2^16 over a sum of 2^22) before anything is
multiplied further, where rank 16 at a scale of two with numbers of 0.1 has over 2^-2 and answers well; float16
overflows by what inputs are, with the base alone as well.  There the generator's look at every answer
(ANSWER_NOT_FINITE) is the guard.

Invariant: what is refused is no adapter that training arrives at.  With rank 512, a scale of 64 and all numbers of A and
B of size one it would still pass; what exceeds the bound is 2^18 times weights of size one, of which a base has few.
"""

import math
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import BinaryIO

from services.registry.inspection import Unfit
from services.registry.inspection.tensors import ITEM_BYTES, Tensor

# Exponents of two.  A alone is what an input meets first, B is scaled when it is loaded.
_MOST_CHANGE, _MOST_DOWN, _MOST_SCALED_UP = 18, 24, 100
_SCAN_BYTES = 16 * 1024 * 1024
# Sought first: most adapters have no number beyond, and then one look is all.
_ORDINARY = {"F32": 64, "BF16": 64, "F16": 71}


def require_bounded(
    name: str,
    path: Path,
    tensors: list[Tensor],
    modules: Mapping[str, Mapping[str, Tensor]],
    config: Mapping[str, object],
) -> None:
    """Raise Unfit for the first module whose numbers are out of all proportion; ``tensors`` are all of the file's."""
    data_start = path.stat().st_size - max((tensor.end for tensor in tensors), default=0)
    # As exponents: the least of numbers divided by a rank would be none.
    alpha, share = math.log2(_largest_alpha(config)), 0.5 if config.get("use_rslora") else 1.0
    with path.open("rb") as file:
        for module, parts in modules.items():
            down = parts.get("lora_A") or parts["lora_embedding_A"]
            up = parts.get("lora_B") or parts["lora_embedding_B"]
            rank = math.log2(down.shape[0])
            scale = alpha - share * rank
            sizes = [exponent_above(file, data_start, tensor, exact=False) for tensor in (down, up)]
            if _within(sizes, scale, rank):
                continue
            sizes = [exponent_above(file, data_start, tensor, exact=True) for tensor in (down, up)]
            if not _within(sizes, scale, rank):
                raise Unfit(
                    f"{name}: the numbers of {module[:200]} are so large that answers could be infinite (up to 2^{sizes[0]} "
                    f"in A and 2^{sizes[1]} in B at a scale of {2**scale:g}); train it anew at a lower learning rate"
                )


def require_below(name: str, path: Path, tensors: Iterable[Tensor], exponent: int) -> None:
    """Raise Unfit for the first tensor with a number of 2^``exponent`` or more; all of floats."""
    ordered = list(tensors)
    data_start = path.stat().st_size - max((tensor.end for tensor in ordered), default=0)
    with path.open("rb") as file:
        for tensor in ordered:
            if tensor.dtype not in _ORDINARY or exponent_above(file, data_start, tensor, exact=False) <= exponent:
                continue
            size = exponent_above(file, data_start, tensor, exact=True)
            if size > exponent:
                raise Unfit(
                    f"{name}: the numbers of {tensor.name[:200]} are so large that results could be infinite (up to "
                    f"2^{size}, over 2^{exponent}); train it anew at a lower learning rate"
                )


def _within(sizes: list[int], scale: float, rank: float) -> bool:
    """Whether all stays finite; everything as exponents of two."""
    down, up = sizes
    return scale + rank + down + up <= _MOST_CHANGE and down <= _MOST_DOWN and scale + up <= _MOST_SCALED_UP


def _largest_alpha(config: Mapping[str, object]) -> float:
    pattern = config.get("alpha_pattern") or {}
    assert isinstance(pattern, dict)  # check_config saw to it
    told = [config.get("lora_alpha", 8), *pattern.values()]
    numbers = [value for value in told if isinstance(value, int | float) and not isinstance(value, bool)]
    if not all(0 < value < 2**_MOST_SCALED_UP for value in numbers):
        raise Unfit("adapter_config.json: alpha_pattern must hold numbers above 0")
    return float(max(numbers))


def exponent_above(file: BinaryIO, data_start: int, tensor: Tensor, *, exact: bool) -> int:
    """Return a power of two that is above every number of the tensor; the least to be had only if ``exact``."""
    file.seek(data_start + tensor.start, os.SEEK_SET)
    item_bytes, left = ITEM_BYTES[tensor.dtype], tensor.end - tensor.start
    top = 0 if exact else _ORDINARY[tensor.dtype]
    while left:
        piece = file.read(min(left, _SCAN_BYTES))
        if not piece:
            raise Unfit("the file shrank while it was read")
        left -= len(piece)
        top = _highest(piece[item_bytes - 1 :: item_bytes], top)
    # A sign, then five bits of exponent and two more; or seven of eight bits of exponent.
    return (top >> 2) - 14 if tensor.dtype == "F16" else 2 * top - 125


def _highest(column: bytes, known: int) -> int:
    """The highest seven bits in a column of numbers' last bytes, or ``known`` where that is higher."""
    if 1 not in column.translate(_reaching(known + 1)):
        return known
    low, high = known + 1, 127
    while low < high:
        middle = (low + high + 1) // 2
        if 1 in column.translate(_reaching(middle)):
            low = middle
        else:
            high = middle - 1
    return low


@cache
def _reaching(bits: int) -> bytes:
    return bytes(byte & 0x7F >= bits for byte in range(256))
