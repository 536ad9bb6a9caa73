"""The bank's machine code (adapters.cpp, attention.cpp) as Python calls it: addresses of tensors in, nothing out.

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

ADAPTERS, ATTENTION = (Path(__file__).with_name(name) for name in ("adapters.cpp", "attention.cpp"))
# `Place` and `Member` of adapters.cpp.
PLACE = np.dtype([("offset", np.int64), ("rank", np.int32), ("scale", np.float32)])
_HALF_BYTES = 2
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
    """`Layer` of adapters.cpp: a linear layer in a pass."""

    _fields_ = (
        ("index", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("members", ctypes.c_void_p),
        ("count", ctypes.c_int64),
    )


class Step(ctypes.Structure):
    """`Step` of adapters.cpp: one optimizer step, all factors as fp32."""

    _fields_ = tuple(
        (name, ctypes.c_float) for name in ("clip", "decay", "beta1", "beta2", "step_size", "root_bias2", "epsilon")
    )


class Shape(ctypes.Structure):
    """`Shape` of attention.cpp: the sequences and heads of a call."""

    _fields_ = (
        ("bounds", ctypes.c_void_p),
        ("sequences", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("count", "rows", "heads", "key_heads", "size", "longest")),
        ("scale", ctypes.c_float),
    )


class Strides(ctypes.Structure):
    """`Strides` of attention.cpp: elements between heads and between rows."""

    _fields_ = (("head", ctypes.c_int64), ("row", ctypes.c_int64))


class Kernels:
    """The loaded code."""

    def __init__(self, library: ctypes.CDLL, attention: ctypes.CDLL) -> None:
        pointer = ctypes.c_void_p
        layer, step = ctypes.POINTER(Layer), ctypes.POINTER(Step)
        self._forward = _typed(library.trivium_bank_forward, layer, *[pointer] * 3, ctypes.c_int32)
        self._backward = _typed(library.trivium_bank_backward, layer, *[pointer] * 5, ctypes.c_int32)
        self._step = _typed(library.trivium_bank_step, step, *[pointer] * 4, ctypes.c_int64)
        self._norm = _typed(library.trivium_bank_norm, pointer, ctypes.c_int64)
        self._norm.restype = ctypes.c_double
        shape, strided = ctypes.POINTER(Shape), (pointer, Strides)
        self._attend = _typed(attention.trivium_bank_attend, shape, *strided * 3, pointer, ctypes.c_int32)
        self._attend_back = _typed(
            attention.trivium_bank_attend_back, shape, *strided * 3, *[pointer] * 4, ctypes.c_int32
        )

    def forward(self, layer: Layer, x: Tensor, y: Tensor, low: Tensor, *, half: bool) -> None:
        """Add every member's product to its rows of `y` [rows, outputs]; `low` is kept for `backward`."""
        self._forward(ctypes.byref(layer), x.data_ptr(), y.data_ptr(), low.data_ptr(), half)

    def backward(
        self, layer: Layer, x: Tensor, gradient: Tensor, low: Tensor, low_gradient: Tensor, of_x: Tensor, *, half: bool
    ) -> None:
        """Add every training member's part to `of_x` [rows, inputs] and to its slot's gradient."""
        addresses = (tensor.data_ptr() for tensor in (x, gradient, low, low_gradient, of_x))
        self._backward(ctypes.byref(layer), *addresses, half)

    def attend(self, shape: Shape, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
        """Attend the sequences of `shape`: query [1, heads, rows, head] and so on to output [1, rows, heads, head]."""
        half = query.element_size() == _HALF_BYTES
        self._attend(ctypes.byref(shape), *_strided(query, key, value), output.data_ptr(), half)

    def attend_back(
        self,
        shape: Shape,
        inputs: tuple[Tensor, Tensor, Tensor],
        gradient: Tensor,
        of_inputs: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        """The gradients of query, key and value, each [1, rows, its heads, head], of the output's."""
        half = gradient.element_size() == _HALF_BYTES
        addresses = (tensor.data_ptr() for tensor in (gradient, *of_inputs))
        self._attend_back(ctypes.byref(shape), *_strided(*inputs), *addresses, half)

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
        return Kernels(native.loaded(ADAPTERS), native.loaded(ATTENTION))
    except (native.NoCompiler, subprocess.CalledProcessError, OSError):
        return None


def _strided(*tensors: Tensor) -> list[Any]:
    """Address and strides of each [1, heads, rows, head]."""
    return [part for each in tensors for part in (each.data_ptr(), Strides(each.stride(1), each.stride(2)))]


def _typed(function: Any, *arguments: Any) -> Any:
    function.argtypes = arguments
    function.restype = None
    return function
