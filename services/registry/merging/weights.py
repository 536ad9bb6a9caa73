"""Tensors in safetensors files, read and written by rows as float32.

Invariant: what is written is a file that :mod:`services.registry.inspection.tensors` accepts, and its numbers are
finite: a value that its dtype cannot hold is refused, never turned into infinity.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from services.registry.inspection import Unfit
from services.registry.inspection.tensors import ITEM_BYTES, Tensor, read_header

Rows = npt.NDArray[np.float32]

_BLOCK_NUMBERS = 4 * 1024 * 1024
_FORMATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor where it lies; ``begin`` counts bytes from the file's own beginning."""

    path: Path
    tensor: Tensor
    begin: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; a vector is one row."""
        return self.tensor.shape

    def rows(self, first: int = 0, last: int | None = None) -> Rows:
        """Rows [first, last) of a matrix, all by default; a vector comes whole as [1, n]."""
        width = self.shape[-1] if self.shape else 1
        count = 1 if len(self.shape) < 2 else self.shape[0]
        last = count if last is None else last
        row_bytes = width * ITEM_BYTES[self.tensor.dtype]
        with self.path.open("rb") as file:
            file.seek(self.begin + first * row_bytes)
            raw = file.read((last - first) * row_bytes)
        return decoded(raw, self.tensor.dtype).reshape(last - first, width)


def stored(files: Mapping[str, Path]) -> dict[str, Stored]:
    """Every tensor of safetensors files, by name.  Raises Unfit."""
    found: dict[str, Stored] = {}
    for name, path in files.items():
        tensors = read_header(name, path)
        header = path.stat().st_size - max((tensor.end for tensor in tensors), default=0)
        found.update({tensor.name: Stored(path, tensor, header + tensor.start) for tensor in tensors})
    return found


def decoded(raw: bytes, dtype: str) -> Rows:
    """Bytes as float32; the upper half of a float32 is what a bfloat16 is."""
    values = np.frombuffer(raw, _FORMATS[dtype])
    if dtype == "BF16":
        return (values.astype("<u4") << np.uint32(16)).view("<f4")
    return values.astype(np.float32)


def encoded(values: Rows, dtype: str, name: str) -> bytes:
    """Float32 as bytes, rounded to the nearest, ties to even.  Raises Unfit for what the dtype cannot hold."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view("<u4")
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        narrow: npt.NDArray[Any] = (rounded >> np.uint32(16)).astype("<u2")
        finite = bool(np.isfinite(values).all()) and not bool(((narrow & 0x7F80) == 0x7F80).any())
    else:
        with np.errstate(over="ignore"):
            narrow = values.astype(_FORMATS[dtype])
        finite = bool(np.isfinite(narrow).all())
    if not finite:
        raise Unfit(f"{name}: the merged numbers are beyond {dtype}")
    return narrow.tobytes()


def blocks(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Spans of rows, [first, last), of a bounded size each."""
    rows = 1 if len(shape) < 2 else shape[0]
    step = max(1, _BLOCK_NUMBERS // max(1, shape[-1] if shape else 1))
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


@dataclass(frozen=True, slots=True)
class Writing:
    """One tensor to write: its rows come as bytes, in order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: Iterable[bytes]


def write(path: Path, tensors: Sequence[Writing]) -> tuple[str, int]:
    """Write a file, durably; its digest and length."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        length = ITEM_BYTES[tensor.dtype] * int(np.prod(tensor.shape, dtype=np.int64))
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + length],
        }
        position += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        hashing = _Hashing(file)
        hashing.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            for piece in tensor.pieces:
                hashing.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return hashing.digest.hexdigest(), hashing.length


class _Hashing:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.length = 0

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self.digest.update(piece)
        self.length += len(piece)
