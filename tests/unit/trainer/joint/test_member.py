"""One job on the bank: what it learns, how it is evaluated, when it ends, and that it goes on where it stood."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer.bank import Segment, Slot
from services.trainer.conduct import Refused
from services.trainer.data.examples import Example, Judged
from services.trainer.joint import objectives
from services.trainer.settings import Keep, Metric, Objective, Schedule, Settings
from services.trainer.work import Said
from tests.tiny_model import TinyModel
from tests.unit.trainer.joint.company import JUDGED, PAIRS, PLAIN, Company, company, copied, same

SETTINGS = Settings(rank=4, alpha=8, batch_rows=4, epochs=2, learning_rate=1e-2, seed=3)
OBJECTIVES = {Objective.SUPERVISED: PLAIN, Objective.DPO: PAIRS, Objective.KTO: JUDGED}


@pytest.fixture
def own(base: Path) -> Company:
    return company(base)


def settings_of(objective: Objective, **changes: Any) -> Settings:
    return dataclasses.replace(SETTINGS, objective=objective, **changes)


def test_supervised_training_learns(own: Company) -> None:
    member = own.begun(dataclasses.replace(SETTINGS, epochs=8), PLAIN)
    own.run(member)
    losses = own.losses(member)
    assert losses[-1] < losses[0] - 0.2
    assert member.finished
    assert member.progress.trained_tokens == 8 * sum(own.rows(PLAIN, SETTINGS).lengths)


def test_the_loss_of_a_step_is_the_mean_over_all_its_supervised_tokens(own: Company) -> None:
    settings = dataclasses.replace(SETTINGS, batch_rows=8, micro_batch_tokens=100)
    member = own.begun(settings, PLAIN)
    rows = own.rows(PLAIN, settings)
    wanted = -log_probs(own, None, rows.sequences(range(8))).sum() / rows.supervised_tokens(range(8))
    own.until_step(member, 1)
    assert own.losses(member)[0] == pytest.approx(float(wanted), rel=1e-3)


def test_a_pair_starts_at_the_logarithm_of_two_and_the_better_answer_wins(own: Company) -> None:
    settings = settings_of(Objective.DPO, epochs=20, metric=Metric.PREFERENCE_ACCURACY)
    member = own.begun(settings, PAIRS, PAIRS)
    own.run(member)
    assert own.losses(member)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert own.losses(member)[-1] < 0.5
    last = own.evaluations(member)[-1]
    assert last["preference_accuracy"] == 1.0
    assert last["preference_margin"] > 0
    assert last["loss"] < 0.5


def test_judged_answers_start_at_a_half_and_the_wanted_ones_win(own: Company) -> None:
    member = own.begun(settings_of(Objective.KTO, epochs=20), JUDGED, JUDGED)
    own.run(member)
    assert own.losses(member)[0] == pytest.approx(0.5, abs=1e-6)
    assert own.losses(member)[-1] < 0.45
    assert own.evaluations(member)[-1]["preference_margin"] > 0


def log_probs(own: Company, slot: Slot | None, sequences: Sequence[Example]) -> torch.Tensor:
    (scores,) = own.bank.score([Segment(slot, sequences, keeps_gradient=False)])
    return objectives.by_sequence(scores.log_probs, scores.lengths)


def test_the_loss_of_pairs_compares_with_the_bare_base(own: Company) -> None:
    settings = settings_of(Objective.DPO, batch_rows=4, beta=0.5)
    member = own.begun(settings, PAIRS)
    own.until_step(member, 1)
    sequences = own.rows(PAIRS, settings).sequences(range(4))
    ratios = (log_probs(own, member.slot, sequences) - log_probs(own, None, sequences)).view(-1, 2)
    wanted = -torch.nn.functional.logsigmoid(0.5 * (ratios[:, 0] - ratios[:, 1])).mean()
    own.until_step(member, 2)
    assert own.losses(member)[1] == pytest.approx(float(wanted), rel=2e-3)


@pytest.mark.parametrize(("rows", "back"), [(JUDGED, 1), (PAIRS, 2)])
def test_the_loss_of_judged_answers_is_measured_from_mismatches(
    own: Company, rows: list[dict[str, Any]], back: int
) -> None:
    settings = settings_of(
        Objective.KTO, batch_rows=8, beta=0.5, desirable_weight=2.0, undesirable_weight=0.1, epochs=3
    )
    member = own.begun(settings, rows)
    own.until_step(member, 2)
    answers = [row.example for row in own.rows(rows, settings).examples() if isinstance(row, Judged)]
    # Of a pair the row before is no mismatch, but the other answer to the same question.
    mismatched = [with_answer_of(answer, answers[row - back]) for row, answer in enumerate(answers)]
    ratio = log_probs(own, member.slot, answers) - log_probs(own, None, answers)
    moved = max(0.0, float((log_probs(own, member.slot, mismatched) - log_probs(own, None, mismatched)).mean()))
    wanted_rows = torch.tensor(
        [row.desirable for row in own.rows(rows, settings).examples() if isinstance(row, Judged)]
    )
    good, bad = ratio[wanted_rows], ratio[~wanted_rows]
    assert moved > 0.1
    losses = [2 * (1 - torch.sigmoid(0.5 * (good - moved))), 0.1 * (1 - torch.sigmoid(0.5 * (moved - bad)))]
    wanted = torch.cat(losses).mean()
    own.until_step(member, 3)
    assert own.losses(member)[2] == pytest.approx(float(wanted), rel=2e-3)


def with_answer_of(asked: Example, answered: Example) -> Example:
    question, begin = asked.supervised.index(True), answered.supervised.index(True)
    return Example(
        asked.tokens[:question] + answered.tokens[begin:],
        asked.supervised[:question] + answered.supervised[begin:],
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_splitting_a_step_changes_memory_and_not_what_is_learned(own: Company, objective: Objective) -> None:
    whole = own.begun(settings_of(objective), OBJECTIVES[objective])
    split = own.begun(settings_of(objective, micro_batch_tokens=40), OBJECTIVES[objective])
    own.until_step(whole, 1)
    own.until_step(split, 1)
    assert own.losses(split)[0] == pytest.approx(own.losses(whole)[0], rel=1e-4)
    assert own.said[split][0].gradient_norm == pytest.approx(own.said[whole][0].gradient_norm, rel=2e-2)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_job_goes_on_elsewhere_to_the_same_bits(own: Company, base: Path, objective: Objective) -> None:
    rows = OBJECTIVES[objective]
    settings = settings_of(objective, dropout=0.1, evaluation_steps=1, keep=Keep.LAST)
    whole = own.begun(settings, rows, rows)
    own.run(whole)
    broken = own.begun(settings, rows, rows)
    own.until_step(broken, 1)
    tensors, state = copied(broken.tensors()), json.loads(json.dumps(broken.state()))
    elsewhere = company(base)
    resumed = elsewhere.new(settings, rows, rows)
    resumed.restore(tensors, state, broken.progress)
    # What was said of the steps so far can be said again: whoever heard it may have died with it.
    assert resumed.remembered == [line for line in own.said[broken] if line.said in (Said.STEP, Said.EVALUATION)] != []
    resumed.begin()
    neighbour = elsewhere.begun(dataclasses.replace(SETTINGS, rank=8, seed=9), PLAIN)
    elsewhere.run(resumed, neighbour)
    assert same(resumed.result(), whole.result())
    assert resumed.history == whole.history


def test_what_other_code_draws_does_not_reach_a_job_and_its_own_seed_does(own: Company) -> None:
    settings = dataclasses.replace(SETTINGS, dropout=0.2)
    found = []
    for drawn, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(drawn)
        member = own.begun(dataclasses.replace(settings, seed=seed), PLAIN)
        own.run(member)
        found.append(member.result())
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_references_are_gone_on_with_where_they_stood(own: Company) -> None:
    settings = settings_of(Objective.DPO, micro_batch_tokens=60)
    whole = own.begun(settings, PAIRS)
    own.run(whole)
    broken = own.begun(settings, PAIRS)
    for _ in range(2):
        own.step(broken)
    assert broken.mark[0] == 0
    resumed = own.new(settings, PAIRS)
    resumed.restore(copied(broken.tensors()), broken.state(), broken.progress)
    resumed.begin()
    assert resumed.mark == broken.mark
    own.run(resumed)
    assert same(resumed.result(), whole.result())


def test_a_checkpoint_of_another_length_is_refused(own: Company) -> None:
    member = own.begun(SETTINGS, PLAIN)
    own.until_step(member, 1)
    other = own.new(dataclasses.replace(SETTINGS, epochs=3), PLAIN)
    with pytest.raises(ValueError, match=r"\b4\b.*\b6\b"):
        other.restore(member.tensors(), member.state(), member.progress)


def test_evaluations_come_after_every_epoch_and_at_the_end(own: Company) -> None:
    member = own.begun(dataclasses.replace(SETTINGS, max_steps=3), PLAIN, PLAIN[:2])
    own.run(member)
    assert [line.progress.step for line in own.said[member] if line.said is Said.EVALUATION] == [2, 3]


def test_training_ends_early_and_the_best_weights_are_the_result(own: Company) -> None:
    settings = dataclasses.replace(
        SETTINGS, epochs=10, evaluation_steps=1, early_stopping_patience=2, early_stopping_delta=100.0
    )
    member = own.begun(settings, PLAIN, PLAIN[:2])
    weights = {}
    while member.unit is not None:
        own.step(member)
        weights[member.progress.step] = copied(member.slot.adapter())
    assert member.finished
    assert member.progress.step == 3
    losses = [found["loss"] for found in own.evaluations(member)]
    best = losses.index(min(losses)) + 1
    assert member.progress.best_step == best
    assert same(member.result(), weights[best])
    assert f"no better than that of step {best}" in own.said[member][-1].message


def test_the_best_weights_are_the_result_also_when_later_ones_are_worse(own: Company) -> None:
    member = own.begun(dataclasses.replace(SETTINGS, evaluation_steps=1), PLAIN, PLAIN[:2])
    while len(member.history.evaluations) < 2:
        own.step(member)
    best = copied(member.result())
    # Far from anything that was learned.
    member.slot.weights.normal_(std=3.0, generator=torch.Generator().manual_seed(0))
    own.run(member)
    first, second, *later = (found["loss"] for found in own.evaluations(member))
    assert min(later) > min(first, second)
    assert member.result_step == member.progress.best_step <= 2
    assert same(member.result(), best)
    losses = own.losses(member)
    assert [found["train_loss"] for found in member.history.evaluations] == losses


def test_the_last_weights_are_the_result_where_those_are_wanted(own: Company) -> None:
    settings = dataclasses.replace(SETTINGS, learning_rate=1.0, evaluation_steps=1, keep=Keep.LAST)
    member = own.begun(settings, PLAIN, PLAIN[:2])
    own.run(member)
    assert same(member.result(), member.slot.adapter())
    assert member.result_step == member.progress.step


def test_answers_are_generated_and_compared_with_those_of_held_out_rows(own: Company) -> None:
    # One answer, learned by heart.
    rows = [PLAIN[0]] * 2
    settings = dataclasses.replace(
        SETTINGS,
        rank=16,
        alpha=32,
        epochs=100,
        schedule=Schedule.COSINE,
        generation_rows=1,
        generation_tokens=12,
        metric=Metric.EXACT_MATCH,
        evaluation_steps=50,
    )
    member = own.begun(settings, rows, rows)
    own.run(member)
    first, last = own.evaluations(member)[0], own.evaluations(member)[-1]
    assert {"loss", "exact_match", "token_f1", "valid_json"} == first.keys()
    assert last["exact_match"] == 1.0
    assert last["valid_json"] == 0.0


def test_an_answer_ends_where_the_template_ends_the_turn_and_not_where_the_base_ends_a_text_alone(
    tmp_path: Path,
) -> None:
    own = company(TinyModel.ending_turns().write(tmp_path / "base"))
    settings = dataclasses.replace(
        SETTINGS, rank=16, alpha=32, epochs=60, generation_rows=1, generation_tokens=12, evaluation_steps=60
    )
    splits = own.splits(settings, [PLAIN[0]] * 2, [PLAIN[0]] * 2)
    found = {}
    for name, given in {"template": splits, "base alone": dataclasses.replace(splits, turn_ends=())}.items():
        member = own.begun(settings, given)
        own.run(member)
        found[name] = own.evaluations(member)[-1]["exact_match"]
    assert found == {"template": 1.0, "base alone": 0.0}


def test_a_metric_that_the_evaluation_does_not_give_is_refused_before_the_first_step(own: Company) -> None:
    member = own.new(dataclasses.replace(SETTINGS, metric=Metric.EXACT_MATCH), PLAIN, PLAIN)
    with pytest.raises(Refused, match=r"\bexact_match\b.*\bloss\b"):
        member.begin()


def test_a_job_that_is_held_is_evaluated_there_and_goes_on_later(own: Company) -> None:
    settings = dataclasses.replace(SETTINGS, keep=Keep.LAST, evaluation_steps=3)
    held = own.begun(settings, PLAIN, PLAIN, hold_step=2)
    own.run(held)
    assert not held.finished
    assert held.progress.step == 2
    assert len(own.evaluations(held)) == 1
    freed = own.new(settings, PLAIN, PLAIN)
    freed.restore(copied(held.tensors()), held.state(), held.progress)
    freed.begin()
    own.run(freed)
    assert freed.finished
    assert [found["step"] for found in freed.history.evaluations] == [2, 3, 4]
