"""Which rows no numbers stand behind, and which requests they are."""

import math
from types import SimpleNamespace

import pytest
import torch

from services.generator.plugin.finite import KEY, _forwarding, _sampling, broken_rows

ROWS, HIDDEN, WORDS = 4, 8, 16


def states(dtype=torch.bfloat16):
    draw = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, HIDDEN, generator=draw).to(dtype), torch.randn(ROWS, WORDS, generator=draw).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_plain_rows_are_sound(dtype):
    assert broken_rows(*states(dtype)) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_none_breaks_its_row_alone(value):
    hidden, logits = states()
    hidden[2, 5] = value
    assert broken_rows(hidden, logits) == [2]


def test_a_state_of_zeros_is_what_a_norm_leaves_of_an_overflow():
    hidden, logits = states()
    hidden[1] = 0
    assert broken_rows(hidden, logits) == [1]
    huge = torch.full((1, HIDDEN), 1e30)
    overflown = torch.nn.functional.rms_norm(huge, (HIDDEN,), eps=1e-5)
    assert broken_rows(overflown, logits[:1]) == [0]


def test_an_adapted_head_whose_inner_product_overflows_shows_in_the_first_logit_whatever_its_weights():
    hidden, logits = states(torch.float32)
    inner = torch.full((1, 2), 1e38) * 1e3
    head = torch.randn(WORDS, 2, generator=torch.Generator().manual_seed(2))
    head[0] = 0
    logits[3] += (inner @ head.t())[0]
    assert broken_rows(hidden, logits) == [3]


class Output:
    """A step's output."""


def test_the_requests_of_broken_rows_are_told_of_and_no_others():
    hidden, logits = states()
    hidden[1] = math.nan
    ids = ["a", "b", "c", "d"]
    runner = SimpleNamespace(
        execute_model_state=SimpleNamespace(sample_hidden_states=hidden, logits=logits),
        input_batch=SimpleNamespace(req_ids=ids),
    )
    told = _sampling(lambda self: Output(), Output)(runner)
    made = {0: SimpleNamespace(outputs=[SimpleNamespace(request_id=each, kv_transfer_params=None) for each in ids])}
    outputs = _forwarding(lambda self, scheduled, output: made)(None, None, told)[0].outputs
    assert [output.kv_transfer_params for output in outputs] == [None, {KEY: True}, None, None]


def test_a_step_without_logits_is_left_alone():
    for state in (None, SimpleNamespace(logits=None)):
        runner = SimpleNamespace(execute_model_state=state, input_batch=SimpleNamespace(req_ids=["a"]))
        assert not vars(_sampling(lambda self: Output(), Output)(runner))
