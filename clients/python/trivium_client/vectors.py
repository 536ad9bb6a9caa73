"""Packed arrays as numbers: what a Tensor of the wire holds, without any library for arrays."""

import struct
from collections.abc import Sequence

from trivium.common.v1 import tensor_pb2

_LETTERS = {
    tensor_pb2.DTYPE_UNSPECIFIED: "f",
    tensor_pb2.DTYPE_FLOAT32: "f",
    tensor_pb2.DTYPE_FLOAT16: "e",
    tensor_pb2.DTYPE_INT8: "b",
}


def rows(tensor: tensor_pb2.Tensor) -> list[tuple[float, ...]]:
    """The rows of a matrix [rows, columns]: FLOAT32 and FLOAT16 as they are, INT8 times the row's factor.

    Raises ValueError for another element type, and where the bytes do not fill the shape.
    """
    if tensor.dtype not in _LETTERS:
        raise ValueError(
            f"{tensor_pb2.Dtype.Name(tensor.dtype)} is not unpacked here; ask for FLOAT32, FLOAT16 or INT8"
        )
    if len(tensor.shape) != 2:
        raise ValueError(f"a matrix has two axes; this has {len(tensor.shape)}")
    count, columns = tensor.shape
    one = struct.Struct(f"<{columns}{_LETTERS[tensor.dtype]}")
    if len(tensor.data) != count * one.size:
        raise ValueError(f"{len(tensor.data)} bytes do not fill {count} rows of {one.size}")
    found: list[tuple[float, ...]] = [one.unpack_from(tensor.data, at * one.size) for at in range(count)]
    return _scaled(found, tensor.scales) if tensor.dtype == tensor_pb2.DTYPE_INT8 else found


def _scaled(found: Sequence[tuple[float, ...]], scales: Sequence[float]) -> list[tuple[float, ...]]:
    if len(scales) != len(found):
        raise ValueError(f"{len(found)} rows of INT8 come with {len(scales)} factors")
    return [tuple(element * scale for element in row) for row, scale in zip(found, scales, strict=True)]
