"""The LoRA product of one linear layer as machine code: rows.cpp, compiled where it runs, called without torch.

Four hundred small matrix products a step cost more in calls than in arithmetic; one call
a module does them all.  Invariant: what is loaded was compiled from the source beside it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from services.chassis.models import ModelSettings

SOURCE = Path(__file__).with_name("rows.cpp")
_FLAGS = ("-std=c++17", "-O3", "-fopenmp", "-shared", "-fPIC")


class NoCompiler(RuntimeError):
    """There is no C++ compiler and nothing compiled yet."""

    def __init__(self) -> None:
        super().__init__("no C++ compiler (c++ or g++) is installed: sudo apt-get install g++, then make setup")


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


def compiled() -> Path:
    """The library, compiled on the first call of an installation.  Raises NoCompiler, CalledProcessError."""
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(_FLAGS).encode() + os.uname().machine.encode())
    library = ModelSettings().cache_dir.expanduser().absolute() / "native" / f"rows-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        compiler = shutil.which("c++") or shutil.which("g++")
        if compiler is None:
            raise NoCompiler
        library.parent.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *_FLAGS, str(SOURCE), "-o", str(unfinished)], check=True)
        unfinished.replace(library)
    return library


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library.  Import torch first: both then share one OpenMP runtime and its threads."""
    loaded = ctypes.CDLL(str(compiled()))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    loaded.trivium_add_rows.argtypes = (
        *(ctypes.POINTER(Layer), pointer, number, pointer, number),
        *(pointer, pointer, number, ctypes.c_int32),
    )
    loaded.trivium_add_rows.restype = None
    loaded.trivium_max_block_rows.restype = number
    loaded.trivium_max_rank.restype = number
    return loaded


if __name__ == "__main__":
    sys.stdout.write(f"LoRA product: {compiled()}\n")
