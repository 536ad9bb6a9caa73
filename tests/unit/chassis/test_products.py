"""A row's bits are its own, whatever the number of rows; and products are products."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from services.chassis import products
from tests.harness.plugin_sampling import sample

# Inputs and outputs of layers: of SmolLM2-135M, of all-MiniLM-L6-v2, and some that divide into nothing.
WIDTHS = [(576, 576), (576, 1536), (1536, 576), (576, 4096), (1536, 384), (16, 40), (33, 70)]
DTYPES = [torch.bfloat16, torch.float32]
COUNTS = [1, 2, 7, 16, 45, 64, 100, 192, 224, 256, 300, 540, 700]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def normal(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.sampled(every=2)
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
def test_a_row_has_the_same_bits_in_any_company_and_at_any_place(inputs: int, outputs: int, dtype: torch.dtype) -> None:
    weight, bias = normal(outputs, inputs, dtype=dtype), normal(outputs, dtype=dtype)
    for multiply, width in (
        (lambda rows: products.linear(rows, weight), inputs),
        (lambda rows: products.linear(rows, weight, bias), inputs),
        (lambda rows: products.backward(rows, weight), outputs),
    ):
        rows = normal(max(COUNTS), width, dtype=dtype)
        whole = multiply(rows)
        for count, first in sample(list(itertools.product(COUNTS, (0, 33))), every=5):
            part = rows[first : first + count]
            assert torch.equal(multiply(part), whole[first : first + count]), (count, first)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
def test_it_is_the_product(inputs: int, outputs: int, dtype: torch.dtype) -> None:
    weight, bias = normal(outputs, inputs, dtype=dtype), normal(outputs, dtype=dtype)
    rows, gradient = normal(300, inputs, dtype=dtype), normal(300, outputs, dtype=dtype)
    exact = rows.double() @ weight.double().t()
    back = gradient.double() @ weight.double()
    tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-5
    for found, expected in (
        (products.linear(rows, weight), exact),
        (products.linear(rows, weight, bias), exact + bias.double()),
        (products.backward(gradient, weight), back),
    ):
        assert found.dtype is dtype
        assert ((found.double() - expected).norm() / expected.norm()).item() < tolerance


@pytest.mark.sampled(every=4)
@pytest.mark.parametrize("planted", [float("nan"), float("inf")])
@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
@pytest.mark.parametrize("place", [0, 40, 99])
def test_a_row_that_is_no_number_changes_no_bit_of_another(
    inputs: int, outputs: int, planted: float, place: int
) -> None:
    weight = normal(outputs, inputs, dtype=torch.bfloat16)
    others = [row for row in range(100) if row != place]
    for multiply, width in ((products.linear, inputs), (products.backward, outputs)):
        rows = normal(100, width, dtype=torch.bfloat16)
        whole = multiply(rows, weight)
        rows[place, width // 2] = planted
        found = multiply(rows, weight)
        assert torch.equal(found[others], whole[others])
        assert not found[place].isfinite().all()


def test_finding_out_how_to_multiply_draws_no_random_number_of_others() -> None:
    before = torch.get_rng_state()
    # Widths that nobody else has: what was found out of others is kept.
    products.linear(normal(3, 91, dtype=torch.float32), normal(17, 91, dtype=torch.float32))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_rows_are_no_rows() -> None:
    weight = normal(8, 32, dtype=torch.bfloat16)
    assert products.linear(normal(0, 32, dtype=torch.bfloat16), weight).shape == (0, 8)


@given(count=st.integers(0, 5000), others=st.sets(st.sampled_from([16, 32, 64, 128, 512])))
def test_blocks_hold_all_rows_and_only_the_last_has_room_left(count: int, others: set[int]) -> None:
    sizes = sorted({256, *others})
    blocks = products.sizes_of_blocks(count, sizes)
    assert set(blocks) <= set(sizes)
    assert sum(blocks) - (blocks[-1] if blocks else 0) < max(count, 1) <= max(sum(blocks), 1)
