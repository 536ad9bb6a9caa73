"""The LoRA product of one linear layer as machine code: rows.cpp, compiled where it runs, called without torch.

Four hundred small matrix products a step cost more in calls than in arithmetic; one call
a module does them all.  Invariant: what is loaded was compiled from the source beside it (chassis/native.py).
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from services.chassis import native

SOURCE = Path(__file__).with_name("rows.cpp")


class Layer(ctypes.Structure):
    """``Layer`` of rows.cpp: addresses and sizes of one adapted layer, in elements."""

    _fields_ = (
        ("down", ctypes.c_void_p),
        ("up", ctypes.c_void_p),
        ("ranks", ctypes.c_void_p),
        ("widths", ctypes.c_void_p),
        ("slices", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("max_rank", ctypes.c_int64),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library.  Import torch first: both then share one OpenMP runtime and its threads."""
    loaded = native.loaded(SOURCE)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    loaded.trivium_add_rows.argtypes = (
        *(ctypes.POINTER(Layer), pointer, number, pointer, number),
        *(pointer, pointer, number, ctypes.c_int32),
    )
    loaded.trivium_add_rows.restype = None
    loaded.trivium_max_block_rows.restype = number
    loaded.trivium_max_rank.restype = number
    return loaded
