"""Machine code of our own: compiled where it runs, kept under the digest of its source, loaded into this process.

Invariant: what is loaded was compiled from the source that is beside its caller, for this kind of processor.

``python -m services.chassis.native SOURCE...`` compiles ahead of first use.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from services.chassis.models import ModelSettings

_FLAGS = ("-std=c++17", "-O3", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi", "-shared", "-fPIC")


class NoCompiler(RuntimeError):
    """There is no C++ compiler and nothing compiled yet."""

    def __init__(self) -> None:
        super().__init__("no C++ compiler (c++ or g++) is installed: sudo apt-get install g++, then make setup")


def compiled(source: Path) -> Path:
    """The library made of `source` and of the headers beside it, compiled on the first call.

    Raises NoCompiler, CalledProcessError.
    """
    library = _library(source)
    if not library.exists():
        compiler = _compiler()
        if compiler is None:
            raise NoCompiler
        library.parent.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *_FLAGS, str(source), "-o", str(unfinished)], check=True)
        unfinished.replace(library)
    return library


def available(source: Path) -> bool:
    """Whether there is a library of `source`, or something to compile it with."""
    return _library(source).exists() or _compiler() is not None


def _compiler() -> str | None:
    return shutil.which("c++") or shutil.which("g++")


def _library(source: Path) -> Path:
    digest = hashlib.sha256(source.read_bytes() + " ".join(_FLAGS).encode() + os.uname().machine.encode())
    for header in sorted(source.parent.glob("*.h")):
        digest.update(header.read_bytes())
    name = f"{source.stem}-{digest.hexdigest()[:16]}.so"
    return ModelSettings().cache_dir.expanduser().absolute() / "native" / name


def loaded(source: Path) -> ctypes.CDLL:
    """The library of `source` in this process.  Import torch first: both then share one OpenMP runtime."""
    return ctypes.CDLL(str(compiled(source)))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        sys.stdout.write(f"{compiled(Path(argument))}\n")
