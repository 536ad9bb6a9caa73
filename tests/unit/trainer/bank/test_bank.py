"""The verbs of the bank, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer.bank import Bank, Initialisation, Segment, Slot, SlotSpec, Update
from services.trainer.data.examples import Example
from tests.unit.trainer.bank import cast

SPEC = SlotSpec(rank=4, alpha=8, seed=1)
ROW = Example(tuple(range(10, 22)), (False,) * 4 + (True,) * 8)


def model(base: Path, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype)


@pytest.fixture
def bank(base: Path) -> Bank:
    return Bank(model(base))


def learn(bank: Bank, slot: Slot, *, steps: int = 1) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = -bank.score([Segment(slot, [ROW], True)])[0].log_probs.mean()
        bank.backward([loss])
        bank.update([Update(slot, 1e-2)])
        losses.append(loss.item())
    return losses


def test_a_slot_learns(bank: Bank) -> None:
    losses = learn(bank, bank.open(SPEC), steps=6)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.2


def test_log_probabilities_are_those_of_the_whole_model(base: Path, bank: Bank) -> None:
    other = Example((3, 4, 5, 6), (True, False, True, True))
    scores = bank.score([Segment(None, [ROW, other], False)])
    assert scores[0].lengths == [8, 2]
    plain = model(base)
    expected = []
    for row in (ROW, other):
        logits = plain(torch.tensor([row.tokens]), use_cache=False).logits[0].float()
        chances = torch.log_softmax(logits, dim=-1)
        expected += [chances[i - 1, row.tokens[i]] for i in range(1, len(row.tokens)) if row.supervised[i]]
    assert torch.allclose(scores[0].log_probs, torch.stack(expected), atol=1e-5)
    assert not scores[0].log_probs.requires_grad


def test_only_segments_that_train_carry_a_gradient(bank: Bank) -> None:
    first, second = bank.open(SPEC), bank.open(SPEC)
    scores = bank.score([Segment(first, [ROW], True), Segment(second, [ROW], False)])
    assert [each.log_probs.requires_grad for each in scores] == [True, False]
    assert torch.equal(*(each.log_probs for each in scores))
    bank.backward([scores[0].log_probs.sum()])
    assert first.gradient is not None
    assert second.gradient is None


def test_a_segment_with_nothing_supervised_has_no_log_probabilities(bank: Bank) -> None:
    slot = bank.open(SPEC)
    silent = Example((1, 2, 3), (False, False, False))
    scores = bank.score([Segment(slot, [silent], True)])
    assert scores[0].lengths == [0]
    assert scores[0].log_probs.shape == (0,)
    bank.backward([scores[0].log_probs.sum()])
    assert bank.update([Update(slot, 1e-2)]) == [0.0]


def test_gradients_of_several_passes_add_up_until_the_update(bank: Bank) -> None:
    whole, parted = bank.open(SPEC), bank.open(SPEC)
    rows = cast.examples(cast.JOBS["plain"], 4, seed=1)
    bank.backward([bank.score([Segment(whole, rows, True)])[0].log_probs.sum()])
    for row in rows:
        bank.backward([bank.score([Segment(parted, [row], True)])[0].log_probs.sum()])
    assert torch.allclose(whole.gradients(), parted.gradients(), atol=1e-5)
    bank.update([Update(whole, 1e-2)])
    assert whole.gradient is None


def test_the_norm_is_told_before_clipping_and_zero_does_not_clip(bank: Bank) -> None:
    norms = []
    moved = []
    for limit in (0.0, 1e-3):
        slot = bank.open(SPEC)
        bank.backward([bank.score([Segment(slot, [ROW], True)])[0].log_probs.sum()])
        expected = float(torch.linalg.vector_norm(slot.gradients()))
        norms.append(bank.update([Update(slot, 1e-2, max_gradient_norm=limit)])[0])
        assert norms[-1] == pytest.approx(expected, rel=1e-6)
        moved.append(float(torch.linalg.vector_norm(slot.first_moment)))
    # The first moment is a tenth of the gradient that was used.
    assert moved[0] == pytest.approx(0.1 * norms[0], rel=1e-4)
    assert moved[1] == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_inside_only_the_base_is_a_model_with_one_adapter_or_none(base: Path, bank: Bank) -> None:
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    slot = bank.open(SPEC)
    learn(bank, slot, steps=3)
    tokens = torch.tensor([ROW.tokens])
    with bank.only(slot) as alone:
        answer = alone.generate(tokens, max_new_tokens=4, do_sample=False)
        logits = alone(tokens).logits
    with bank.only(None) as bare:
        assert torch.equal(bare(tokens).logits, model(base)(tokens).logits)
    config = {**bank.adapter_config(slot), "base_model_name_or_path": str(base)}
    adapted = get_peft_model(model(base), LoraConfig(**config))
    set_peft_model_state_dict(adapted, slot.adapter())
    assert torch.allclose(adapted(tokens).logits, logits, atol=1e-4)
    assert torch.equal(adapted.generate(tokens, max_new_tokens=4, do_sample=False), answer)


def test_an_adapter_is_continued_from_its_weights(bank: Bank) -> None:
    first = bank.open(SPEC)
    learn(bank, first, steps=2)
    second = bank.open(SlotSpec(rank=4, alpha=8, seed=9))
    second.load_adapter(first.adapter())
    assert torch.equal(first.weights, second.weights)
    with pytest.raises(ValueError, match=r"\b4x32\b.*\b2x32\b"):
        bank.open(SlotSpec(rank=2, alpha=8)).load_adapter(first.adapter())
    with pytest.raises(ValueError, match=r"\bdown_proj\b"):
        bank.open(SlotSpec(rank=4, alpha=8, target_modules=("q_proj",))).load_adapter(first.adapter())
    broken = {name: tensor / 0 for name, tensor in first.adapter().items()}
    with pytest.raises(ValueError, match=r"\bfinite\b"):
        bank.open(SPEC).load_adapter(broken)


def test_what_an_adapter_gives_away_is_a_copy(bank: Bank) -> None:
    slot = bank.open(SlotSpec(rank=1, alpha=1))
    given = slot.adapter()
    for tensor in given.values():
        tensor.fill_(7.0)
    assert not bool((slot.weights == 7.0).any())


def test_dropout_is_of_training_alone_and_follows_the_slots_own_generator(bank: Bank) -> None:
    spec = SlotSpec(rank=4, alpha=8, dropout=0.5, seed=1)
    slot, again = bank.open(spec), bank.open(spec)
    slot.weights.normal_(generator=torch.Generator().manual_seed(1))
    again.weights.copy_(slot.weights)
    evaluated = [bank.score([Segment(slot, [ROW], False)])[0].log_probs for _ in range(2)]
    assert torch.equal(*evaluated)
    torch.manual_seed(1)
    trained = [bank.score([Segment(slot, [ROW], True)])[0].log_probs.detach() for _ in range(2)]
    assert not torch.equal(*trained)
    torch.manual_seed(2)
    assert torch.equal(bank.score([Segment(again, [ROW], True)])[0].log_probs.detach(), trained[0])


@pytest.mark.parametrize("initialisation", Initialisation)
def test_every_initialisation_begins_at_the_base(bank: Bank, initialisation: Initialisation) -> None:
    slot = bank.open(SlotSpec(rank=4, alpha=8, initialisation=initialisation))
    scores = bank.score([Segment(slot, [ROW], False), Segment(None, [ROW], False)])
    assert torch.allclose(*(each.log_probs for each in scores), atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (SlotSpec(rank=0, alpha=8), r"q_proj\b.*\b0\b.*\b512\b"),
        (SlotSpec(rank=4, alpha=0), r"\balpha\b.*\b0\b"),
        (SlotSpec(rank=4, alpha=8, dropout=1.0), r"\bdropout\b.*\b1\b"),
        (SlotSpec(rank=4, alpha=8, target_modules=("query",)), r"\bquery\b.*\bdown_proj\b.*\bgate_proj\b"),
        (SlotSpec(rank=4, alpha=8, layers=(0, 2)), r"\b2\b.*\b0\b.*\b1\b"),
        (SlotSpec(rank=4, alpha=8, rank_pattern={"(a+)+": 2}), r"\(a\+\)\+"),
        (SlotSpec(rank=4, alpha=8, alpha_pattern={"query": 2}), r"\bquery\b"),
        (SlotSpec(rank=4, alpha=8, rank_pattern={"v_proj": 513}), r"v_proj\b.*\b513\b"),
        (SlotSpec(rank=3, alpha=8, initialisation=Initialisation.ORTHOGONAL), r"_proj\b.*\b3\b.*\borthogonal\b"),
    ],
)
def test_what_does_not_fit_the_base_is_refused_in_words(bank: Bank, spec: SlotSpec, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        bank.open(spec)


def test_a_pass_that_makes_no_sense_is_refused(bank: Bank) -> None:
    slot = bank.open(SPEC)
    for segments, reason in (
        ([], r"\bsegment\b"),
        ([Segment(slot, [ROW], True), Segment(slot, [ROW], True)], r"\bslot\b.*\bsegment\b"),
        ([Segment(None, [ROW], True)], r"\bgradient\b"),
        ([Segment(slot, [], True)], r"\bsequence\b"),
        ([Segment(slot, [Example((), ())], True)], r"\btoken\b"),
    ):
        with pytest.raises(ValueError, match=reason):
            bank.score(segments)
    bank.close(slot)
    with pytest.raises(ValueError, match=r"\bslot\b.*\bopen\b"):
        bank.score([Segment(slot, [ROW], True)])
    with pytest.raises(ValueError, match=r"\bslot\b.*\bopen\b"):
        bank.close(slot)


def test_tensors_of_another_adapter_are_refused(bank: Bank) -> None:
    slot = bank.open(SPEC)
    with pytest.raises(ValueError, match=r"\bweights\b"):
        slot.restore(bank.open(SlotSpec(rank=8, alpha=8)).tensors())
    with pytest.raises(KeyError):
        slot.restore({"step": torch.tensor(1)})


def test_a_base_with_formulas_of_its_own_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    small = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16))
    small.config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match=r"\bgpt2\b.*\bfinal_logit_softcapping\b"):
        Bank(small)


def test_gradients_take_memory_only_between_a_backward_pass_and_the_update(bank: Bank) -> None:
    held = [bank.open(SPEC) for _ in range(4)]
    learn(bank, held[0])
    assert [slot.gradient for slot in held] == [None] * 4
    # One gradient's memory serves whoever takes part next.
    bank.backward([bank.score([Segment(held[1], [ROW], True)])[0].log_probs.sum()])
    first = held[1].gradients().data_ptr()
    bank.update([Update(held[1], 1e-2)])
    bank.backward([bank.score([Segment(held[2], [ROW], True)])[0].log_probs.sum()])
    assert held[2].gradients().data_ptr() == first


def test_a_gradient_that_is_discarded_between_score_and_backward_is_made_anew(bank: Bank) -> None:
    slot, other = bank.open(SPEC), bank.open(SPEC)
    scores = bank.score([Segment(slot, [ROW], True), Segment(other, [ROW], True)])
    slot.gradients().fill_(9.0)
    slot.discard_gradient()
    bank.backward([each.log_probs.sum() for each in scores])
    assert torch.equal(slot.gradients(), other.gradients())
