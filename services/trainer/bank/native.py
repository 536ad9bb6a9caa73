"""The bank's machine code (kernels.cpp) as Python calls it: addresses of tensors in, nothing out.

Invariant: every tensor whose address is passed is held by whoever calls, is contiguous, and lies in this process.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from services.chassis import native

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.cpp")
# `Place` and `Member` of kernels.cpp.
PLACE = np.dtype([("offset", np.int64), ("rank", np.int32), ("scale", np.float32)])
MEMBER = np.dtype(
    [
        ("weights", np.uint64),
        ("gradient", np.uint64),
        ("places", np.uint64),
        ("first", np.int64),
        ("last", np.int64),
        ("seed", np.uint64),
        ("threshold", np.uint32),
        ("scale", np.float32),
    ]
)


class Layer(ctypes.Structure):
    """`Layer` of kernels.cpp: a linear layer in a pass."""

    _fields_ = (
        ("index", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("members", ctypes.c_void_p),
        ("count", ctypes.c_int64),
    )


class Step(ctypes.Structure):
    """`Step` of kernels.cpp: one optimizer step, all factors as fp32."""

    _fields_ = tuple(
        (name, ctypes.c_float) for name in ("clip", "decay", "beta1", "beta2", "step_size", "root_bias2", "epsilon")
    )


class Kernels:
    """The loaded code."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer = ctypes.c_void_p
        layer, step = ctypes.POINTER(Layer), ctypes.POINTER(Step)
        self._forward = _typed(library.trivium_bank_forward, layer, *[pointer] * 3, ctypes.c_int32)
        self._backward = _typed(library.trivium_bank_backward, layer, *[pointer] * 5, ctypes.c_int32)
        self._step = _typed(library.trivium_bank_step, step, *[pointer] * 4, ctypes.c_int64)
        self._norm = _typed(library.trivium_bank_norm, pointer, ctypes.c_int64)
        self._norm.restype = ctypes.c_double

    def forward(self, layer: Layer, x: Tensor, y: Tensor, low: Tensor, *, half: bool) -> None:
        """Add every member's product to its rows of `y` [rows, outputs]; `low` is kept for `backward`."""
        self._forward(ctypes.byref(layer), x.data_ptr(), y.data_ptr(), low.data_ptr(), half)

    def backward(
        self, layer: Layer, x: Tensor, gradient: Tensor, low: Tensor, low_gradient: Tensor, of_x: Tensor, *, half: bool
    ) -> None:
        """Add every training member's part to `of_x` [rows, inputs] and to its slot's gradient."""
        addresses = (tensor.data_ptr() for tensor in (x, gradient, low, low_gradient, of_x))
        self._backward(ctypes.byref(layer), *addresses, half)

    def norm(self, vector: Tensor) -> float:
        """The Euclidean norm of a vector in fp32."""
        found: float = self._norm(vector.data_ptr(), vector.numel())
        return found

    def step(self, step: Step, weights: Tensor, gradient: Tensor, first: Tensor, second: Tensor) -> None:
        """AdamW over a slot's vectors; leaves zeros in `gradient`."""
        addresses = (tensor.data_ptr() for tensor in (weights, gradient, first, second))
        self._step(ctypes.byref(step), *addresses, weights.numel())


@functools.cache
def kernels() -> Kernels | None:
    """The code for this machine, compiled on the first call of an installation; None where nothing compiles it."""
    import torch

    # Torch first: both then share one OpenMP runtime and its threads.
    assert torch.get_num_threads() > 0
    try:
        return Kernels(native.loaded(SOURCE))
    except (native.NoCompiler, subprocess.CalledProcessError, OSError):
        return None


def _typed(function: Any, *arguments: Any) -> Any:
    function.argtypes = arguments
    function.restype = None
    return function
