"""Bases that scale or cap what others leave as it is: the bank learns on them what PEFT learns, and each job its own bits."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from services.trainer.bank import Bank, Segment, SlotSpec
from services.trainer.bank.attention import per_sequence_attention
from services.trainer.bank.passes import packed
from services.trainer.bank.scores import log_probs
from services.trainer.data.examples import Example
from services.trainer.formulas import Logits
from tests.unit.trainer.bank import cast
from tests.unit.trainer.bank.kinds import KINDS, make_base_of
from tests.unit.trainer.bank.test_exactness import digests
from tests.unit.trainer.bank.test_oracle import by_peft, by_the_bank, distance, model

Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Writes a random base of a kind below the test's folder."""
    return partial(make_base_of, tmp_path)


@pytest.mark.sampled(every=2)
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_steps_on_the_bank_are_twenty_steps_of_peft(kind: str, made: Made) -> None:
    base = made(kind)
    first, found, config = by_the_bank(base, SlotSpec(rank=8, alpha=16, seed=1))
    expected = by_peft(base, first, config)
    assert distance(found, expected) <= 1e-4
    assert distance(first, expected) > 1e-2


@pytest.mark.sampled(every=2)
@pytest.mark.parametrize("kind", ["Granite", "Gemma2"])
def test_a_job_ends_with_the_bits_of_the_job_alone(kind: str, made: Made) -> None:
    together, recomputed, alone = digests(made(kind), ["together"], ["recomputed"], list(cast.JOBS))
    assert together.keys() == alone.keys()
    assert {name for here in together.values() for name in here} == set(cast.JOBS)
    assert recomputed == together
    assert alone == together


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_those_of_the_whole_model(kind: str, made: Made) -> None:
    base = made(kind)
    row = Example(tuple(range(5, 60)), (True,) * 55)
    logits = model(base)(torch.tensor([row.tokens]), use_cache=False).logits[0]
    expected = torch.log_softmax(logits, dim=-1)[torch.arange(54), torch.tensor(row.tokens[1:])]
    (scores,) = Bank(model(base)).score([Segment(None, [row], False)])
    assert torch.allclose(scores.log_probs, expected, atol=1e-4)
    # A formula that is left out is seen.
    plain = {"logits_scaling": 1.0, "logit_scale": 1.0, "final_logit_softcapping": None, "attn_logit_softcapping": None}
    for name in plain.keys() & KINDS[kind].keys():
        other = Bank(model(made(kind, **{name: plain[name]}))).score([Segment(None, [row], False)])[0]
        assert not torch.allclose(other.log_probs, expected, atol=1e-2)


@pytest.mark.parametrize("how", [Logits(scale=0.3), Logits(cap=3.0), Logits(scale=2.0, cap=3.0)])
def test_the_gradient_is_that_of_the_formula(how: Logits) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(40, 32, generator=generator).requires_grad_()
    weight = torch.randn(259, 32, generator=generator)
    following = torch.randint(259, (40,), generator=generator)
    incoming = torch.randn(40, generator=generator)
    found = log_probs(hidden, following, weight, None, how, trains=True)
    (slope,) = torch.autograd.grad(found, hidden, incoming)
    exact = hidden.detach().double().requires_grad_()
    logits = exact @ weight.double().t() * how.scale
    if how.cap is not None:
        logits = how.cap * torch.tanh(logits / how.cap)
    expected = torch.log_softmax(logits, dim=-1).gather(1, following[:, None])[:, 0]
    (expected_slope,) = torch.autograd.grad(expected, exact, incoming.double())
    assert torch.allclose(found.double(), expected, atol=1e-4)
    assert torch.allclose(slope.double(), expected_slope, atol=1e-4)


@pytest.mark.parametrize("window", [None, 20, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_capped_attention_is_the_formulas_also_over_several_blocks(dtype: torch.dtype, window: int | None) -> None:
    lengths, heads, kept, size = (1, 33, 256, 600), 4, 2, 8
    total = sum(lengths)
    rows = [Example((1,) * length, (True,) * length) for length in lengths]
    generator = torch.Generator().manual_seed(1)
    inputs = [
        (3 * torch.randn(1, count, total, size, generator=generator)).to(dtype).requires_grad_()
        for count in (heads, kept, kept)
    ]
    incoming = torch.randn(1, total, heads, size, generator=generator).to(dtype)
    query, key, value = inputs
    found, _ = per_sequence_attention(
        nn.Identity(),
        query,
        key,
        value,
        None,
        scaling=0.5,
        sliding_window=window,
        softcap=2.0,
        running_pass=packed([Segment(None, rows, False)], None),
    )
    slopes = torch.autograd.grad(found, inputs, incoming)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = torch.cat([capped(part, window) for part in parts(exact, lengths)], dim=1)
    expected_slopes = torch.autograd.grad(expected, exact, incoming.double())
    bound = 1e-5 if dtype is torch.float32 else 1e-2
    for ours, theirs in zip((found, *slopes), (expected, *expected_slopes), strict=True):
        assert float((ours.detach().double() - theirs.detach()).norm() / theirs.detach().norm()) < bound


def parts(tensors: list[Tensor], lengths: tuple[int, ...]) -> list[tuple[Tensor, ...]]:
    return list(zip(*(tensor.split(lengths, dim=2) for tensor in tensors), strict=True))


def capped(part: tuple[Tensor, ...], window: int | None) -> Tensor:
    """By the formula, [1, length, heads, head]."""
    query, key, value = part
    key, value = (tensor.repeat_interleave(2, dim=1) for tensor in (key, value))
    scores = 2.0 * torch.tanh(query @ key.transpose(2, 3) * 0.5 / 2.0)
    back = torch.arange(query.shape[2])[:, None] - torch.arange(query.shape[2])[None, :]
    seen = (back >= 0) & (back < (window or query.shape[2]))
    return (functional.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1) @ value).transpose(1, 2)
