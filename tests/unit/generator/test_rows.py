"""The products by slot, in torch and in machine code, against the plain formula in fp32, for every mix of rows."""

import numpy as np
import pytest
import torch

from services.generator.plugin import native
from services.generator.plugin.layers import NativeRows
from services.generator.plugin.rows import (
    BLOCK_ROWS,
    NO_SLOT,
    add_grouped,
    applied_slots,
    planned,
    slots_of_requests,
    slots_of_rows,
)

SLOTS, RANK, INPUTS, WIDTHS = 4, 8, 48, (32, 16, 16)

MIXES = {
    "base alone": [-1] * 7,
    "one adapter, decode": [2],
    "one adapter, prefill": [1] * 33,
    "many, each a run": [0] * 5 + [1] * 9 + [2] * 3 + [3] * 4,
    "many, interleaved": [0, 1, 2, 3] * 6,
    "base first": [-1] * 4 + [3] * 4,
    "base last": [3] * 4 + [-1] * 4,
    "base between": [3, -1, 3, -1, -1, 0, -1, 3],
    "prefill beside decodes": [0, 1, -1, 2] + [3] * 40 + [-1] * 20,
    "last slot beside base": [-1, 3, -1],
    "one row of each": [3, 2, -1, 0, 1],
}


def layer(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    down = tuple(torch.randn(SLOTS, 1, RANK, INPUTS, generator=generator).to(dtype) for _ in WIDTHS)
    up = tuple(torch.randn(SLOTS, 1, width, RANK, generator=generator).to(dtype) for width in WIDTHS)
    return down, up


def in_bf16(slots):
    down, up = layer(dtype=torch.bfloat16)
    x, y = torch.randn(len(slots), INPUTS).bfloat16(), torch.randn(len(slots), sum(WIDTHS)).bfloat16()
    return x, y, down, up


def plain(y, x, down, up, slots, scale):
    """The formula, y + scale * x A^T B^T, one row and one slice at a time, nothing for NO_SLOT."""
    expected = y.clone()
    for row, slot in enumerate(slots):
        offset = 0
        for a, b, width in zip(down, up, WIDTHS, strict=True):
            if slot != NO_SLOT:
                delta = b[slot, 0].float() @ (a[slot, 0].float() @ x[row].float())
                expected[row, offset : offset + width] += scale * delta
            offset += width
    return expected


def of(slots):
    """The plan of rows of which one at least has a slot."""
    plan = planned(np.array(slots))
    assert plan is not None
    return plan


def in_torch(y, x, down, up, slots, scale=1.0):
    if (plan := planned(np.array(slots))) is not None:
        add_grouped(y, x, down, up, scale, WIDTHS, plan)


def in_machine_code(y, x, down, up, slots, *, plain=False):
    rows = NativeRows(torch.cat(down, dim=1), up)
    for slot in range(SLOTS):
        rows.renew(slot)
    if (plan := planned(np.array(slots))) is not None:
        rows.add(y, x, plan, plain=plain)


def in_machine_code_of_any_processor(y, x, down, up, slots):
    in_machine_code(y, x, down, up, slots, plain=True)


BF16_PRODUCTS = [in_torch, in_machine_code, in_machine_code_of_any_processor]


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("mix", MIXES)
def test_the_grouped_product_equals_the_plain_formula(mix, scale):
    slots = MIXES[mix]
    x, y = torch.randn(len(slots), INPUTS), torch.randn(len(slots), sum(WIDTHS))
    down, up = layer()
    expected = plain(y, x, down, up, slots, scale)
    in_torch(y, x, down, up, slots, scale)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("product", BF16_PRODUCTS)
@pytest.mark.parametrize("mix", MIXES)
def test_in_bf16_it_stays_within_rounding_of_the_fp32_formula(mix, product):
    slots = MIXES[mix]
    x, y, down, up = in_bf16(slots)
    expected = plain(y.float(), x, down, up, slots, 1.0)
    product(y, x, down, up, slots)
    scale = expected.abs().mean()
    assert (y.float() - expected).abs().max() < 0.1 * scale + 0.02 * expected.abs().max()


@pytest.mark.parametrize("product", BF16_PRODUCTS)
@pytest.mark.parametrize("mix", MIXES)
def test_a_base_row_keeps_every_bit_whoever_it_shares_the_batch_with(mix, product):
    slots = MIXES[mix]
    x, y, down, up = in_bf16(slots)
    before = y.clone()
    product(y, x, down, up, slots)
    base = torch.tensor(slots) == NO_SLOT
    assert torch.equal(y[base], before[base])


@pytest.mark.parametrize("plain_code", [False, True])
@pytest.mark.parametrize("mix", MIXES)
def test_an_adapted_row_has_the_same_bits_alone_and_in_company(mix, plain_code):
    slots = MIXES[mix]
    x, y, down, up = in_bf16(slots)
    together, alone = y.clone(), y.clone()
    in_machine_code(together, x, down, up, slots, plain=plain_code)
    for row, slot in enumerate(slots):
        in_machine_code(alone[row : row + 1], x[row : row + 1], down, up, [slot], plain=plain_code)
    assert torch.equal(together, alone)


@pytest.mark.parametrize(("inputs", "widths", "rank"), [(576, (576, 192, 192), 16), (50, (33,), 8), (31, (7, 40), 1)])
@pytest.mark.parametrize("used", [1, 3, 8, 16])
def test_ranks_below_the_most_and_odd_sizes_are_multiplied_whole(inputs, widths, rank, used):
    generator = torch.Generator().manual_seed(1)
    down = torch.randn(1, len(widths), rank, inputs, generator=generator)
    down[:, :, used:] = 0
    down[:, -1, :] *= len(widths) > 1 and used == 3  # a slice that the adapter leaves alone, or not
    up = tuple(torch.randn(1, 1, width, rank, generator=generator).bfloat16() for width in widths)
    x, y = torch.randn(11, inputs).bfloat16(), torch.randn(11, sum(widths)).bfloat16()
    expected = y.float()
    offset = 0
    for index, part in enumerate(up):
        low = x.float() @ down.bfloat16()[0, index].float().t()
        expected[:, offset : offset + part.shape[2]] += low @ part[0, 0].float().t()
        offset += part.shape[2]
    rows = NativeRows(down.bfloat16(), up)
    rows.renew(0)
    rows.add(y, x, of([0] * 11))
    assert (y.float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_cleared_slot_adds_nothing_and_a_rewritten_one_only_what_it_holds_now():
    x, y, down, up = in_bf16([2, 2])
    stacked = torch.cat(down, dim=1)
    rows = NativeRows(stacked, up)
    rows.renew(2)
    rows.clear(2)
    before = y.clone()
    rows.add(y, x, of([2, 2]))
    assert torch.equal(y, before)
    stacked[2] *= 2
    rows.renew(2)
    rows.add(y, x, of([2, 2]))
    expected = plain(before.float(), x, tuple(2 * part for part in down), up, [2, 2], 1.0)
    assert (y.float() - expected).abs().max() < 0.03 * expected.abs().max()


def test_a_plans_blocks_are_as_large_as_machine_code_takes() -> None:
    assert native.library().trivium_max_block_rows() == BLOCK_ROWS


def test_numbers_that_are_none_stay_none():
    x, y, down, up = in_bf16([0])
    x[0, 0] = float("nan")
    in_machine_code(y, x, down, up, [0])
    assert y.isnan().all()


@pytest.mark.parametrize("mix", MIXES)
def test_the_slots_read_back_are_the_slots_that_multiply(mix):
    slots = np.array(MIXES[mix])
    assert applied_slots(planned(slots), len(slots)).tolist() == slots.tolist()


def test_rows_find_the_slot_that_holds_their_adapter():
    held = [7, None, 3, 9]
    assert slots_of_rows((3, 3, 0, 9, 7, 0), held).tolist() == [2, 2, -1, 3, 0, -1]


def test_an_adapter_without_a_slot_is_an_error_and_not_the_base():
    with pytest.raises(KeyError):
        slots_of_rows((5,), [1, 2])


def test_each_request_is_told_the_slot_of_all_its_rows():
    applied = np.array([2, 2, 2, -1, 0, 0])
    assert slots_of_requests(applied, np.array([3, 1, 2], dtype=np.int32)) == [(2, 2), (-1, -1), (0, 0)]


def test_a_request_whose_rows_met_two_slots_shows_both():
    applied = np.array([1, 1, 3, -1])
    assert slots_of_requests(applied, np.array([3, 1], dtype=np.int32)) == [(1, 3), (-1, -1)]
