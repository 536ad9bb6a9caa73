import numpy as np
import pytest
from trivium.common.v1 import tensor_pb2
from trivium_client.vectors import rows

from services.embedder.wire import packed

VECTORS = np.random.default_rng(3).standard_normal((5, 64)).astype(np.float32)
STEPS = {tensor_pb2.DTYPE_FLOAT32: 0, tensor_pb2.DTYPE_FLOAT16: 2e-3, tensor_pb2.DTYPE_INT8: 4 / 127 / 2}


@pytest.mark.parametrize("dtype", STEPS, ids=tensor_pb2.Dtype.Name)
def test_what_the_embedder_packs_is_unpacked_to_the_step_of_its_element_type(dtype):
    unpacked = np.array(rows(packed(VECTORS, dtype)))
    assert unpacked.shape == VECTORS.shape
    assert np.abs(unpacked - VECTORS).max() <= STEPS[dtype]


def test_the_greatest_element_of_a_row_survives_int8_and_a_row_of_zeros_stays_one():
    greatest = np.array([[0.5, -2.0, 0.1], [0.0, 0.0, 0.0]], dtype=np.float32)
    unpacked = np.array(rows(packed(greatest, tensor_pb2.DTYPE_INT8)))
    assert unpacked[0][1] == pytest.approx(-2.0)
    assert not unpacked[1].any()


def test_no_vectors_are_no_rows():
    assert rows(tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT16, shape=[0, 384])) == []


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_BFLOAT16, shape=[1, 1], data=b"xx"), "BFLOAT16"),
        (tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_INT8, shape=[3], data=b"xxx"), "axes"),
        (
            tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_INT8, shape=[2, 3], data=b"xxx", scales=[1, 1]),
            "3 bytes.* 2 rows of 3",
        ),
        (tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_INT8, shape=[1, 3], data=b"xxx"), "0 factors"),
    ],
)
def test_what_is_no_matrix_is_refused(tensor, problem):
    with pytest.raises(ValueError, match=problem):
        rows(tensor)
