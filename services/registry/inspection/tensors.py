"""The safetensors format, read by hand: a header that is checked to the byte, and finite numbers.

Invariant: whatever passes can be mapped by a reader that trusts the header.  The
tensors lie one after the other without holes or overlap, fill the file to its
last byte, and every shape times its dtype is exactly the length it claims.
Format: 8 bytes little-endian header length, that many bytes of JSON, the tensors.
"""

import json
import math
import os
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from services.registry.inspection import Unfit
from services.registry.inspection.documents import containers_of

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8
# An entry is an object with two lists; and five strings stand in it, between ten quotation marks.
_MAX_CONTAINERS = 3 * MAX_TENSORS + 64
_MAX_QUOTES = 10 * MAX_TENSORS + 65_536
_FIELDS = {"dtype", "shape", "data_offsets"}
_SCAN_BYTES = 16 * 1024 * 1024
# One piece of a sample; a multiple of every number's length.
_SAMPLE_BYTES = 64 * 1024

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip

# For each float: its length, and the bits of its last and of its last but one byte that are all ones only in NaN and
# infinity (the exponent).  Bytes of all numbers of a piece are looked at together, by the interpreter's own loops:
# as fast as numpy, whose import would be most of a small adapter's inspection.
_EXPONENT = {
    "F16": (2, 0x7C, 0),
    "BF16": (2, 0x7F, 0x80),
    "F32": (4, 0x7F, 0x80),
    "F64": (8, 0x7F, 0xF0),
    "F8_E5M2": (1, 0x7C, 0),
    "F8_E4M3": (1, 0x7F, 0),
}
_MARK = 0xFF

# The first bytes of what people upload in place of safetensors.
_DISGUISES = (
    (b"PK\x03\x04", "a pickle in place of safetensors (a zip archive, as torch.save writes it)"),
    (b"\x80\x02", "a pickle in place of safetensors"),
    (b"\x80\x03", "a pickle in place of safetensors"),
    (b"\x80\x04", "a pickle in place of safetensors"),
    (b"\x80\x05", "a pickle in place of safetensors"),
    (b"\x1f\x8b", "a gzip archive in place of safetensors"),
    (b"GGUF", "a GGUF file in place of safetensors"),
    (b"\x93NUMPY", "a numpy file in place of safetensors"),
    (b"\x89HDF", "an HDF5 file in place of safetensors"),
)


class Tensor(NamedTuple):
    """One entry of the header; ``start`` and ``end`` are byte offsets behind the header.

    A tuple, since a file may have MAX_TENSORS of them and a frozen dataclass takes twice as long to make.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def disguise(first_bytes: bytes) -> str | None:
    """What the bytes really are, if they begin like a format that we refuse by name."""
    if first_bytes[8:9] == b"{":
        return None  # a header length may happen to begin like a pickle; the '{' settles it
    for magic, what in _DISGUISES:
        if first_bytes.startswith(magic):
            return what
    return None


def read_header(name: str, path: Path) -> list[Tensor]:
    """The tensors of a safetensors file in file order; ``name`` is for messages.  Raises Unfit on any flaw."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(16)
        what = disguise(first)
        if what is not None:
            raise Unfit(f"{name} is {what}")
        if size_bytes < 10:
            raise Unfit(f"{name} has {size_bytes} bytes, too few for a safetensors header")
        header_bytes = int.from_bytes(first[:8], "little")
        if header_bytes > MAX_HEADER_BYTES:
            raise Unfit(f"{name} announces a header of {header_bytes} bytes, over {MAX_HEADER_BYTES}")
        if 8 + header_bytes > size_bytes:
            flaw = f"announces a header of {header_bytes} bytes in a file of {size_bytes}"
            raise Unfit(f"{name} {flaw}: it is cut off; copy it again")
        file.seek(8)
        header = _parse(name, file.read(header_bytes))
    return _laid_out(name, header, size_bytes - 8 - header_bytes)


def _parse(name: str, raw: bytes) -> dict[str, object]:
    if not raw.startswith(b"{"):
        raise Unfit(f"{name} is not safetensors: its header does not begin with '{{'")
    if containers_of(raw) > _MAX_CONTAINERS or raw.count(b'"') > _MAX_QUOTES:
        raise Unfit(f"{name}: its header has more entries than {MAX_TENSORS} tensors need")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except Unfit as unfit:
        raise Unfit(f"{name}: {unfit}") from None
    except (ValueError, RecursionError):
        raise Unfit(f"{name} is not safetensors: its header is not JSON") from None
    if not isinstance(header, dict):
        raise Unfit(f"{name} is not safetensors: its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Unfit(f"{name}: __metadata__ must map text to text")
    if len(header) > MAX_TENSORS:
        raise Unfit(f"{name} has {len(header)} tensors, over {MAX_TENSORS}")
    return header


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unfit("a key stands twice in the header")
    return found


def _no_constant(constant: str) -> NoReturn:
    raise Unfit(f"{constant} in the header")


def _laid_out(name: str, header: dict[str, object], data_bytes: int) -> list[Tensor]:
    """Check every entry and that together they tile the data without holes or overlap."""
    entries = (_entry(name, key, value) for key, value in header.items())
    tensors = sorted(entries, key=attrgetter("start", "end"))
    position = 0
    for tensor in tensors:
        if tensor.start != position:
            flaw = "overlaps the tensor before it" if tensor.start < position else "leaves a hole before it"
            raise Unfit(f"{name}: tensor {tensor.name[:200]} {flaw}")
        position = tensor.end
    if position != data_bytes:
        flaw = "trailing bytes" if position < data_bytes else "missing bytes: it is cut off; copy it again"
        raise Unfit(f"{name} has {abs(data_bytes - position)} {flaw}")
    return tensors


def _entry(name: str, key: str, value: object) -> Tensor:
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise _unfit(name, key, "must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _unfit(name, key, f"has the dtype {str(dtype)[:20]}, which is not known")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise _unfit(name, key, f"has a shape that is not a list of at most {MAX_DIMENSIONS} sizes")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _unfit(name, key, "has offsets that are not a begin and an end")
    if math.prod(shape) * ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise _unfit(name, key, "has a shape that does not fit its length")
    return Tensor(key, dtype, tuple(shape), offsets[0], offsets[1])


def _unfit(name: str, key: str, flaw: str) -> Unfit:
    return Unfit(f"{name}: tensor {key[:200]} {flaw}")


def _counts(value: object) -> bool:
    """Whether ``value`` is a list of sizes; bool is an int to Python but not here."""
    if not isinstance(value, list):
        return False
    for item in value:  # noqa: SIM110 - of two hundred thousand lists a generator for each is a fifth of the time
        if type(item) is not int or not 0 <= item < 2**63:
            return False
    return True


def require_finite(name: str, path: Path, tensors: list[Tensor], share: float = 1.0) -> None:
    """Raise Unfit at the first NaN or infinity.  Reads in pieces: memory stays bounded.

    With a ``share`` under 1, only about so much of each tensor is read, in pieces spread over it.
    """
    data_start = path.stat().st_size - max((tensor.end for tensor in tensors), default=0)
    with path.open("rb") as file:
        for tensor in tensors:
            for start, length in _pieces(tensor, share):
                file.seek(data_start + start, os.SEEK_SET)
                if not _finite(file, tensor.dtype, length):
                    raise Unfit(f"{name}: tensor {tensor.name[:200]} holds NaN or infinity")


def _pieces(tensor: Tensor, share: float) -> list[tuple[int, int]]:
    """Start and length, in bytes behind the header, of what is read of a tensor; never half a number."""
    whole = tensor.end - tensor.start
    if share >= 1.0 or whole <= _SAMPLE_BYTES:
        return [(tensor.start, whole)]
    count = max(1, round(whole * share / _SAMPLE_BYTES))
    step = whole // count
    return [(tensor.start + index * step // 8 * 8, min(_SAMPLE_BYTES, step // 8 * 8)) for index in range(count)]


def _finite(file: BinaryIO, dtype: str, length: int) -> bool:
    left = length
    while left:
        piece = file.read(min(left, _SCAN_BYTES))
        if not piece:
            raise Unfit("the file shrank while it was read")
        left -= len(piece)
        if dtype in _EXPONENT and _special(piece, *_EXPONENT[dtype]):
            return False
    return True


def _special(piece: bytes, item_bytes: int, last: int, before: int) -> bool:
    """Whether a number in the piece has all these bits, little-endian."""
    lasts = _marked(piece[item_bytes - 1 :: item_bytes], last)
    if _MARK not in lasts or not before:
        return _MARK in lasts
    befores = _marked(piece[item_bytes - 2 :: item_bytes], before)
    return int.from_bytes(lasts, "little") & int.from_bytes(befores, "little") != 0


def _marked(column: bytes, mask: int) -> bytes:
    """A mark for each byte that has all bits of the mask, 0 for every other."""
    return column.translate(_marks(mask))


@cache
def _marks(mask: int) -> bytes:
    return bytes(_MARK if byte & mask == mask else 0 for byte in range(256))
