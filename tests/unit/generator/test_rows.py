"""The grouped product against the plain formula, row by row in fp32, for every mix of rows."""

import numpy as np
import pytest
import torch

from services.generator.plugin.rows import (
    NO_SLOT,
    add_grouped,
    applied_slots,
    group_rows,
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


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("mix", MIXES)
def test_the_grouped_product_equals_the_plain_formula(mix, scale):
    slots = MIXES[mix]
    x, y = torch.randn(len(slots), INPUTS), torch.randn(len(slots), sum(WIDTHS))
    down, up = layer()
    expected = plain(y, x, down, up, slots, scale)
    add_grouped(y, x, down, up, scale, WIDTHS, group_rows(np.array(slots)))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mix", MIXES)
def test_in_bf16_it_stays_within_rounding_of_the_fp32_formula(mix):
    slots = MIXES[mix]
    x = torch.randn(len(slots), INPUTS).bfloat16()
    y = torch.randn(len(slots), sum(WIDTHS)).bfloat16()
    down, up = layer(dtype=torch.bfloat16)
    expected = plain(y.float(), x, down, up, slots, 1.0)
    add_grouped(y, x, down, up, 1.0, WIDTHS, group_rows(np.array(slots)))
    scale = expected.abs().mean()
    assert (y.float() - expected).abs().max() < 0.1 * scale + 0.02 * expected.abs().max()


@pytest.mark.parametrize("mix", MIXES)
def test_a_base_row_keeps_every_bit_whoever_it_shares_the_batch_with(mix):
    slots = MIXES[mix]
    x, y = torch.randn(len(slots), INPUTS), torch.randn(len(slots), sum(WIDTHS))
    before = y.clone()
    down, up = layer()
    add_grouped(y, x, down, up, 1.0, WIDTHS, group_rows(np.array(slots)))
    base = torch.tensor(slots) == NO_SLOT
    assert torch.equal(y[base], before[base])


@pytest.mark.parametrize("mix", MIXES)
def test_the_slots_read_back_are_the_slots_that_multiply(mix):
    slots = np.array(MIXES[mix])
    assert applied_slots(group_rows(slots), len(slots)).tolist() == slots.tolist()


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
