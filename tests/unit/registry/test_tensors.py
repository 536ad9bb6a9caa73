"""The safetensors reader: what the reference library writes passes, anything else is Unfit and nothing worse."""

import contextlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from safetensors.numpy import save

from services.registry.inspection import Unfit
from services.registry.inspection.tensors import disguise, read_header, require_finite
from tests.adapters import Adapter, safetensors

DTYPES = [np.float32, np.float16, np.float64, np.int8, np.int32, np.int64, np.uint8, np.bool_]
ARRAYS = some.builds(
    lambda dtype, shape: np.zeros(shape, dtype),
    some.sampled_from(DTYPES),
    some.lists(some.integers(0, 4), max_size=3),
)
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file.safetensors"
    path.write_bytes(content)
    return path


@QUICK
@given(arrays=some.dictionaries(some.text("ab.", min_size=1, max_size=6), ARRAYS, max_size=5))
def test_what_the_reference_library_writes_is_read(tmp_path: Path, arrays):
    path = written(tmp_path, save(arrays))
    tensors = read_header("f", path)
    assert {tensor.name: tensor.shape for tensor in tensors} == {name: array.shape for name, array in arrays.items()}
    require_finite("f", path, tensors)


@QUICK
@given(content=some.binary(max_size=300))
def test_any_bytes_are_read_or_unfit(tmp_path: Path, content: bytes):
    path = written(tmp_path, content)
    with contextlib.suppress(Unfit):
        require_finite("f", path, read_header("f", path))


@QUICK
@given(content=some.recursive(some.none() | some.booleans() | some.integers() | some.text(max_size=5) |
       some.sampled_from(["F32", "BF16"]), lambda inner: some.lists(inner, max_size=3) |
       some.dictionaries(some.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "t"]), inner, max_size=3)))  # fmt: skip
def test_any_json_header_is_read_or_unfit(tmp_path: Path, content):
    text = json.dumps(content).encode()
    path = written(tmp_path, struct.pack("<Q", len(text)) + text + bytes(8))
    with contextlib.suppress(Unfit):
        read_header("f", path)


@QUICK
@given(data=some.data())
def test_a_flipped_byte_never_reads_past_the_file(tmp_path: Path, data):
    content = bytearray(safetensors(Adapter().tensors()))
    for _ in range(data.draw(some.integers(1, 4))):
        content[data.draw(some.integers(0, len(content) - 1))] = data.draw(some.integers(0, 255))
    path = written(tmp_path, bytes(content))
    try:
        tensors = read_header("f", path)
    except Unfit:
        return
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    assert all(header_bytes + tensor.end <= len(content) for tensor in tensors)


@pytest.mark.parametrize(("dtype", "kind"), [("F32", np.float32), ("F16", np.float16), ("F64", np.float64)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_number_among_many_is_found(tmp_path: Path, dtype: str, kind, value: float):
    numbers = np.ones(10_000, kind)
    numbers[7_654] = value
    path = written(tmp_path, safetensors({"t": (dtype, [10_000], numbers.tobytes())}))
    with pytest.raises(Unfit, match=r"\bt\b.* NaN"):
        require_finite("f", path, read_header("f", path))


@pytest.mark.parametrize(
    ("dtype", "pattern"), [("BF16", 0x7F80), ("BF16", 0xFFC0), ("F8_E5M2", 0x7C), ("F8_E4M3", 0xFF)]
)
def test_numbers_that_numpy_does_not_know_are_judged_by_their_bits(tmp_path: Path, dtype: str, pattern: int):
    width = 2 if dtype == "BF16" else 1
    good, bad = bytes(width * 3), bytes(width * 2) + pattern.to_bytes(width, "little")
    for content, fits in ((good, True), (bad, False)):
        path = written(tmp_path, safetensors({"t": (dtype, [3], content)}))
        if fits:
            require_finite("f", path, read_header("f", path))
        else:
            with pytest.raises(Unfit):
                require_finite("f", path, read_header("f", path))


def test_a_header_whose_length_begins_like_a_pickle_is_no_pickle():
    length = struct.pack("<Q", 0x0280)
    assert disguise(length + b'{"a": ') is None
    assert disguise(b"\x80\x02ccollections") is not None


# Every bit of the exponent, as IEEE 754 and OCP FP8 lay it out; E4M3 has no infinity, and NaN only with all of these.
EXPONENTS = {
    "F16": (2, 0x7C00), "BF16": (2, 0x7F80), "F32": (4, 0x7F80_0000), "F64": (8, 0x7FF0_0000_0000_0000),
    "F8_E5M2": (1, 0x7C), "F8_E4M3": (1, 0x7F),
}  # fmt: skip


@QUICK
@given(
    dtype=some.sampled_from(sorted(EXPONENTS)),
    content=some.lists(some.sampled_from([0, 0x3F, 0x7C, 0x7F, 0x80, 0xF0, 0xFF])),
)
def test_a_number_is_refused_exactly_when_all_bits_of_its_exponent_are_set(
    tmp_path: Path, dtype: str, content: list[int]
):
    width, mask = EXPONENTS[dtype]
    whole = bytes(content[: len(content) // width * width])
    words = [int.from_bytes(whole[start : start + width], "little") for start in range(0, len(whole), width)]
    expected = any(word & mask == mask for word in words)
    path = written(tmp_path, safetensors({"t": (dtype, [len(words)], whole)}))
    with pytest.raises(Unfit, match="NaN") if expected else contextlib.nullcontext():
        require_finite("f", path, read_header("f", path))
