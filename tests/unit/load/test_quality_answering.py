"""Answers of the quality benchmark do not depend on what is computed once for all prompts, nor on a kill."""

from pathlib import Path

import pytest
import torch

from tests.load.finetune_quality.answering import Asked, Order, Prompts, answered, batches_in
from tests.load.finetune_quality.rows import Row
from tests.unit.trainer.tiny import ROWS, make_base

ROWS_ASKED = tuple(Row(question * (1 + place % 3), "Yes.", "No.") for place, (question, _) in enumerate(ROWS * 8))
SHOTS = (Row("Is it open?", "It is."), Row("Is it far?", "It is not."))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("asked") / "tiny")


def order(base: Path, *, shots: tuple[Row, ...] = SHOTS, answer_tokens: int = 6) -> Order:
    return Order(str(base), str(base), "", "Answer in a word.", shots, ROWS_ASKED, answer_tokens)


@pytest.fixture(scope="module")
def model(base: Path):
    from transformers import AutoModelForCausalLM

    # In fp32 and with larger weights, so that no two words are nearly as likely.
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    return model


@pytest.fixture(scope="module")
def prompts(base: Path) -> Prompts:
    from transformers import AutoTokenizer

    return Prompts(AutoTokenizer.from_pretrained(base), order(base))


def test_prompts_share_what_stands_before_the_first_word_that_differs(prompts: Prompts):
    shared = len(prompts.shared)
    assert shared > 100
    assert {tuple(tokens[:shared]) for tokens in prompts.tokens} == {tuple(prompts.shared)}
    assert len({tokens[shared] for tokens in prompts.tokens}) > 1


def test_answers_over_the_shared_beginning_are_those_to_each_prompt_alone(model, prompts: Prompts):
    tokens = prompts.tokens[:12]
    together = Asked(model, prompts.shared).answers(tokens, 6, 1)
    alone = [Asked(model, []).answers([each], 6, 1)[0] for each in tokens]
    assert together == alone
    assert len({tuple(answer) for answer in alone}) > 1


def test_a_likelihood_is_the_sum_over_the_answers_tokens(model, prompts: Prompts):
    tokens, answers = prompts.tokens[:7], [prompts.answer(text) for text in ("Yes.", "No, never.") * 4][:7]
    together = Asked(model, prompts.shared).log_likelihoods(tokens, answers, 1)
    for prompt, answer, found in zip(tokens, answers, together, strict=True):
        nats = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        alone = sum(float(nats[len(prompt) - 1 + at, token].detach()) for at, token in enumerate(answer))
        assert found == pytest.approx(alone, abs=1e-3)


def test_what_was_killed_in_the_middle_of_a_line_goes_on_behind_the_last_whole_one(base: Path, tmp_path: Path):
    asked = order(base, answer_tokens=3)
    asked.write(tmp_path / "order.json")
    assert Order.read(tmp_path / "order.json") == asked
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    answered(asked, whole)
    first, second = whole.read_bytes().splitlines(keepends=True)
    killed.write_bytes(first + second[: len(second) // 2])
    assert sum(len(batch.places) for batch in batches_in(killed)) == 32
    answered(asked, killed)
    assert killed.read_bytes().startswith(first)
    found = [[(batch.places, batch.found) for batch in batches_in(path)] for path in (whole, killed)]
    assert found[0] == found[1]
    assert sorted(place for batch in batches_in(killed) for place in batch.places) == list(range(len(ROWS_ASKED)))


def test_of_pairs_the_nats_between_both_answers_are_found(base: Path, tmp_path: Path):
    output = tmp_path / "pairs.jsonl"
    answered(order(base, shots=(), answer_tokens=0), output)
    (first, *_) = batches_in(output)
    assert len(first.found) == 32
    assert all(isinstance(nats, float) for nats in first.found)
    assert len(set(first.found)) > 1
