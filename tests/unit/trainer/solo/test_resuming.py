import dataclasses
from pathlib import Path

import pytest

from services.trainer import checkpoints
from services.trainer.joint import mismatching
from services.trainer.joint.mismatching import PAIRING, Pairing
from services.trainer.settings import Method, Objective
from services.trainer.solo.order import Checkpointed, Evaluated, Started, Stepped
from tests.unit.trainer.old_formats import write_solo
from tests.unit.trainer.solo.small_jobs import METHODS, OBJECTIVES, Job, judged_pairs, with_settings


@pytest.mark.sampled(every=3)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", METHODS)
def test_a_job_that_is_stopped_and_goes_on_ends_with_the_bits_of_one_never_stopped(
    tmp_path: Path, base: Path, method: Method, objective: Objective
) -> None:
    settings = with_settings(method=method, objective=objective, dropout=0.2, evaluation_steps=2)
    calm, broken = (Job(tmp_path / name, base, settings) for name in ("calm", "broken"))
    calm.validation = broken.validation = calm.training[:3]
    whole = calm.finish()
    broken.stop_after(1)
    assert broken.finish() == whole
    # It said again what it had said, which its hearers may not have outlived; it went on, and did not begin again.
    assert [report.progress.step for report in broken.said(Stepped)] == [1, 1, 2, 3]


def test_a_job_that_ended_just_before_it_was_saved_is_saved_from_its_checkpoint(tmp_path: Path, base: Path) -> None:
    job = Job(tmp_path / "job", base)
    whole = job.finish()
    said = list(job.reports)
    assert job.finish() == whole
    again = job.reports[len(said) :]
    assert [each for each in again if isinstance(each, Stepped | Evaluated)] == [
        each for each in said if isinstance(each, Stepped | Evaluated)
    ]
    assert [type(each) for each in again[-2:]] == [Checkpointed, Started]


def test_what_other_code_draws_does_not_reach_a_job(tmp_path: Path, base: Path) -> None:
    import torch

    settings = with_settings(method=Method.DORA, dropout=0.2)
    torch.manual_seed(1)
    first = Job(tmp_path / "a", base, settings).finish()
    torch.manual_seed(2)
    assert Job(tmp_path / "b", base, settings).finish() == first


def test_another_seed_gives_another_model(tmp_path: Path, base: Path) -> None:
    settings = with_settings(method=Method.DORA)
    other = dataclasses.replace(settings, seed=4)
    assert Job(tmp_path / "a", base, settings).finish() != Job(tmp_path / "b", base, other).finish()


def test_a_checkpoint_holds_fp32_weights_and_moments_and_no_pickle(tmp_path: Path, base: Path) -> None:
    import torch

    job = Job(tmp_path / "job", base)
    job.finish()
    found = checkpoints.newest(job.order.kept)
    assert found is not None
    tensors = checkpoints.load_tensors(found)
    held = [name for name in tensors if name.startswith(("weight.", "exp_avg"))]
    assert len(held) == 3 * sum(name.startswith("weight.") for name in tensors)
    assert all(tensors[name].dtype is torch.float32 for name in held)
    assert {file.suffix for file in found.folder.iterdir()} == {".safetensors", ".json"}


def test_a_job_that_an_earlier_release_began_goes_on_though_its_settings_name_nothing(
    tmp_path: Path, base: Path
) -> None:
    settings = with_settings(method=Method.DORA)
    whole = Job(tmp_path / "calm", base, settings).finish()
    Job(tmp_path / "begun", base, settings).stop_after(1)
    taken = dataclasses.replace(settings, exclude_modules=("query",), rank_pattern=(("query", 2),))
    assert Job(tmp_path / "begun", base, taken).finish() == whole


def test_a_job_of_the_release_before_goes_on_with_the_mismatches_that_its_references_are_of(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_settings(objective=Objective.KTO, evaluation_steps=1, learning_rate=1e-2, epochs=2, batch_rows=2)
    calm, broken, resumed, begun = (Job(tmp_path / name, base, settings) for name in ("a", "b", "c", "d"))
    for job in (calm, broken, resumed, begun):
        job.training = job.validation = judged_pairs(base)
    with monkeypatch.context() as before:
        # What that release took whatever was asked.
        before.setattr(mismatching, "_of_other_questions", lambda _: [])
        whole = calm.finish()
        broken.stop_after(3)
    found = checkpoints.newest(broken.order.kept)
    assert found is not None
    write_solo(resumed.order.kept, 3, found.folder)
    assert resumed.finish() == whole
    assert resumed.said(Started)[0].progress.step == 3
    # So that a later process goes on with them, too.
    last = checkpoints.newest(resumed.order.kept)
    assert last is not None
    assert checkpoints.load_state(last)[PAIRING] == Pairing.ROW_BEFORE
    assert begun.finish() != whole
