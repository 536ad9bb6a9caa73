"""Measures products of matrices: `python -m services.trainer.products_child INPUTS OUTPUTS` writes JSON.

That is operations a second by dtype, a multiplication and an addition each, of the fastest of some products of a step's
tokens: what else the machine did meanwhile only slows them.
"""

import json
import sys
import time

import torch

_TOKENS = 1024
# The first allocates and compiles.
_ROUNDS = 6


def operations_per_second(inputs: int, outputs: int, dtype: torch.dtype) -> float:
    """Of products of a step's tokens with a weight of this shape."""
    rows, weight = torch.ones(_TOKENS, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
    took = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        torch.nn.functional.linear(rows, weight)
        took.append(time.perf_counter() - begun)
    return 2 * _TOKENS * inputs * outputs / max(min(took[1:]), 1e-9)


def main() -> None:
    """Measure both dtypes that jobs compute in."""
    inputs, outputs = map(int, sys.argv[1:])
    with torch.no_grad():
        found = {
            str(dtype).removeprefix("torch."): operations_per_second(inputs, outputs, dtype)
            for dtype in (torch.bfloat16, torch.float32)
        }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
