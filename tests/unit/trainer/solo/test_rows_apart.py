"""Rows that share a sequence or a batch do not see one another."""

from pathlib import Path

import torch

from services.trainer.data.examples import Example
from services.trainer.solo.feeds import SequenceFeed, packed
from tests.unit.trainer.solo.small_jobs import examples


def example(*tokens: int) -> Example:
    return Example(tokens, (False, *(True,) * (len(tokens) - 1)))


def test_a_packed_row_neither_sees_nor_moves_its_neighbours(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    first, changed, last = examples(base)[:3]
    other = Example(tuple((token + 7) % 250 + 2 for token in changed.tokens), changed.supervised)
    begin = len(first.tokens) + len(changed.tokens)

    def hidden(middle: Example) -> tuple[torch.Tensor, torch.Tensor]:
        batch = packed([first, middle, last])
        embedded = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
        answer = model.get_decoder()(
            inputs_embeds=embedded, position_ids=batch["position_ids"], use_cache=False
        ).last_hidden_state
        answer[:, begin:].sum().backward()
        assert embedded.grad is not None
        return answer, embedded.grad

    (ours, gradient), (theirs, _) = hidden(changed), hidden(other)
    assert torch.equal(ours[:, : len(first.tokens)], theirs[:, : len(first.tokens)])
    assert torch.equal(ours[:, begin:], theirs[:, begin:])
    assert not torch.equal(ours, theirs)
    # The last row's output moves with no token of the others.
    assert not gradient[:, :begin].any()
    assert gradient[:, begin:].any()


def test_no_loss_is_taken_across_the_border_of_packed_rows() -> None:
    batch = SequenceFeed([example(5, 6, 7), example(8, 9)], packing=True).tensors([0, 1])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9]]


def test_packs_and_padded_parts_stay_within_the_budget_and_hold_every_row_once() -> None:
    rows = [example(*range(2, 2 + length)) for length in (3, 9, 4, 4, 20, 2)]
    for packing in (False, True):
        feed = SequenceFeed(rows, packing=packing)
        parts = feed.parts(range(6), 12)
        assert sorted(row for part in parts for row in part) == list(range(6))
        assert all(feed.tensors(part)["input_ids"].numel() <= 12 or len(part) == 1 for part in parts)
    # Padding costs a part.
    assert len(SequenceFeed(rows, packing=True).parts(range(6), 13)) < len(SequenceFeed(rows).parts(range(6), 13))
