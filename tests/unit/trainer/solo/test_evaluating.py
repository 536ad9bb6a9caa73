import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.trainer import checkpoints
from services.trainer.data.examples import ChatEncoder
from services.trainer.settings import Keep, Method, Metric, Objective
from services.trainer.solo.order import Evaluated, Remarked, Stepped
from tests.tiny_model import TinyModel
from tests.unit.trainer.solo.small_jobs import METHODS, Job, with_settings
from tests.unit.trainer.solo.test_learning import log_probs, plain, weights_of


def test_an_evaluation_is_the_mean_over_all_supervised_tokens_held_out(tmp_path: Path, base: Path) -> None:
    job = Job(tmp_path / "job", base, with_settings(max_steps=1, micro_batch_tokens=100))
    job.validation = job.training[:4]
    job.finish()
    model = plain(base)
    model.load_state_dict(weights_of(job), strict=False)
    with torch.no_grad():
        total = sum(float(-log_probs(model, row).sum()) for row in job.validation)
    (evaluated,) = job.said(Evaluated)
    counted = sum(row.supervised_tokens for row in job.validation)
    assert evaluated.assessment.loss == pytest.approx(total / counted, abs=1e-5)
    assert evaluated.assessment.accuracy is None


def test_pairs_are_evaluated_by_accuracy_and_margin_too(tmp_path: Path, base: Path) -> None:
    settings = with_settings(objective=Objective.DPO, max_steps=2, micro_batch_tokens=100, beta=0.3)
    job = Job(tmp_path / "job", base, settings)
    job.validation = job.training[:5]
    job.finish()
    policy, reference = plain(base), plain(base)
    policy.load_state_dict(weights_of(job), strict=False)
    with torch.no_grad():
        margins = [
            0.3
            * sum(
                sign * float(log_probs(policy, side).sum() - log_probs(reference, side).sum())
                for sign, side in ((1, pair.chosen), (-1, pair.rejected))
            )
            for pair in job.validation
        ]
    assessment = job.said(Evaluated)[-1].assessment
    assert assessment.loss == pytest.approx(sum(math.log1p(math.exp(-one)) for one in margins) / 5, abs=1e-5)
    assert assessment.accuracy == pytest.approx(sum(one > 0 for one in margins) / 5)
    assert assessment.margin == pytest.approx(sum(margins) / 5, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluation_leaves_no_trace_in_what_is_learned(tmp_path: Path, base: Path, method: Method) -> None:
    settings = with_settings(method=method, dropout=0.2, keep=Keep.LAST, evaluation_steps=1)
    watched, alone = Job(tmp_path / "a", base, settings), Job(tmp_path / "b", base, settings)
    watched.validation = watched.training[:3]
    assert watched.finish() == alone.finish()
    assert len(watched.said(Evaluated)) == 3


def test_evaluations_come_after_each_epoch_and_at_the_end_when_no_number_is_given(tmp_path: Path, base: Path) -> None:
    job = Job(tmp_path / "job", base, with_settings(epochs=3, max_steps=7))
    job.validation = job.training[:2]
    job.finish()
    assert [report.progress.step for report in job.said(Evaluated)] == [3, 6, 7]


def worsening(tmp_path: Path, name: str, base: Path, **changes: object) -> Job:
    """A job that learns one answer and is evaluated on another: soon every step makes it worse."""
    settings = with_settings(epochs=12, learning_rate=2e-2, evaluation_steps=1, batch_rows=2, **changes)
    job = Job(tmp_path / name, base, settings)
    job.training, job.validation = [job.training[0], job.training[0]], job.training[1:2]
    return job


@pytest.mark.parametrize("method", [Method.FULL, Method.DORA])
def test_the_best_weights_become_the_version_also_after_a_stop(tmp_path: Path, base: Path, method: Method) -> None:
    job = worsening(tmp_path, "job", base, method=method)
    job.finish()
    best = max(report.progress.step for report in job.said(Evaluated) if report.best)
    assert best < job.said(Stepped)[-1].progress.step
    trained = job.train()
    losses = {report.progress.step: report.progress.loss for report in job.said(Stepped)}
    assert trained.step == best
    assert [found["train_loss"] for found in trained.evaluations] == [
        losses[found["step"]] for found in trained.evaluations
    ]
    held = worsening(tmp_path, "held", base, method=method)
    held.order = Job(tmp_path / "held", base, held.settings, hold_step=best).order
    assert held.train() is None
    dtype = torch.bfloat16 if method is Method.FULL else torch.float32
    saved = load_file(job.weights)
    for name, value in weights_of(held).items():
        # PEFT names the one adapter inside the model, and not in its file.
        written = name.replace("vector.default.weight", "vector").replace(".default", "")
        assert torch.equal(saved[written], value.to(dtype)), name
    last = worsening(tmp_path, "last", base, method=method, keep=Keep.LAST)
    assert last.finish() != job.finish()
    stopped = worsening(tmp_path, "stopped", base, method=method)
    stopped.stop_after(best + 1)
    assert stopped.finish() == job.finish()


def test_a_job_ends_early_when_it_no_longer_improves_also_after_a_stop(tmp_path: Path, base: Path) -> None:
    job = worsening(tmp_path, "job", base, early_stopping_patience=2)
    whole = job.finish()
    ended = job.said(Stepped)[-1].progress.step
    best = max(report.progress.step for report in job.said(Evaluated) if report.best)
    assert ended == best + 2 < job.said(Stepped)[-1].progress.total_steps
    assert "ended early" in job.said(Remarked)[0].message
    broken = worsening(tmp_path, "broken", base, early_stopping_patience=2)
    broken.stop_after(best + 1)
    assert broken.finish() == whole
    assert broken.said(Stepped)[-1].progress.step == ended


def test_preference_accuracy_can_decide_what_is_best(tmp_path: Path, base: Path) -> None:
    settings = with_settings(objective=Objective.DPO, metric=Metric.PREFERENCE_ACCURACY, evaluation_steps=1)
    job = Job(tmp_path / "job", base, settings)
    job.validation = job.training[:5]
    job.finish()
    found = checkpoints.newest(job.order.kept)
    assert found is not None
    accuracies = [report.assessment.accuracy for report in job.said(Evaluated)]
    assert checkpoints.load_state(found)["history"]["best_value"] == max(accuracies)


def test_a_metric_that_nothing_gives_is_refused_before_anything_is_loaded(tmp_path: Path, base: Path) -> None:
    job = Job(tmp_path / "job", base, with_settings(metric=Metric.PREFERENCE_ACCURACY))
    job.validation = job.training[:2]
    with pytest.raises(ValueError, match=r"\bpreference_accuracy\b.*\bloss\b"):
        job.train()


def test_held_out_questions_are_answered_and_the_answers_measured(tmp_path: Path, base: Path) -> None:
    settings = with_settings(
        metric=Metric.EXACT_MATCH,
        generation_rows=2,
        generation_tokens=12,
        learning_rate=1e-2,
        batch_rows=2,
        epochs=60,
        evaluation_steps=30,
    )
    job = Job(tmp_path / "job", base, settings)
    # One row, learned by heart.
    job.training, job.validation = [job.training[0], job.training[0]], job.training[:1]
    job.finish()
    values = [report.assessment.values() for report in job.said(Evaluated)]
    assert {"loss", "exact_match", "token_f1", "valid_json"} == set(values[0])
    assert values[-1]["exact_match"] == values[-1]["token_f1"] == 1.0
    assert values[-1]["valid_json"] == 0.0


def test_an_answer_ends_where_the_template_ends_the_turn_and_not_where_the_base_ends_a_text_alone(
    tmp_path: Path,
) -> None:
    base = TinyModel.ending_turns().write(tmp_path / "base")
    ends = ChatEncoder.load(base).turn_ends()
    settings = with_settings(
        generation_rows=1, generation_tokens=12, learning_rate=1e-2, batch_rows=2, epochs=60, evaluation_steps=60
    )
    found = {}
    for turn_ends in (ends, ()):
        job = Job(tmp_path / f"job{turn_ends}", base, settings, turn_ends=turn_ends)
        job.training, job.validation = [job.training[0], job.training[0]], job.training[:1]
        job.finish()
        found[turn_ends] = job.said(Evaluated)[-1].assessment.answers["exact_match"]
    assert found == {ends: 1.0, (): 0.0}


@pytest.mark.parametrize("method", [Method.DORA, Method.QLORA])
def test_answering_leaves_no_trace_in_what_is_learned(tmp_path: Path, base: Path, method: Method) -> None:
    settings = with_settings(method=method, dropout=0.2, keep=Keep.LAST, evaluation_steps=1, max_steps=2)
    asked = Job(tmp_path / "asked", base, replace(settings, generation_rows=1, generation_tokens=2))
    asked.validation = asked.training[:1]
    assert asked.finish() == Job(tmp_path / "alone", base, settings).finish()
    assert "exact_match" in asked.said(Evaluated)[0].assessment.answers
