"""Full fine-tuning divided over two processes, against the same in one."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from services.trainer import checkpoints
from services.trainer.child import train
from services.trainer.settings import Keep
from services.trainer.work import CHECKPOINTS, RESULT, RESULT_MANIFEST, Exit, Line, Said
from tests.unit.trainer.solo.small_jobs import with_settings
from tests.unit.trainer.solo.test_process import conversations, ordered
from tests.unit.trainer.solo.together import train_together, weights


def test_two_processes_learn_what_one_does_and_checkpoint_it_whole(tmp_path: Path, base: Path) -> None:
    # 9 rows to train on in steps of 4: in the last step one of the processes has no row.
    settings = with_settings(
        validation_ratio=0.25,
        evaluation_steps=1,
        checkpoint_steps=2,
        max_gradient_norm=0.5,
        gradient_checkpointing=True,
        keep=Keep.BEST,
    )
    one, two = (ordered(tmp_path / name, base, settings, conversations(12)) for name in ("one", "two"))
    alone: list[Line] = []
    train(one, alone.append, lambda: False)
    together = train_together(two, 2)
    assert [(line.said, line.progress.step) for line in together[:-1]] == [
        (line.said, line.progress.step) for line in alone
    ]
    for there, here in zip(together, alone, strict=False):
        assert there.progress.loss == pytest.approx(here.progress.loss, rel=1e-5)
        assert there.gradient_norm == pytest.approx(here.gradient_norm, rel=1e-4)
        assert there.evaluation.get("loss", 0.0) == pytest.approx(here.evaluation.get("loss", 0.0), rel=1e-5)
    assert together[-1].said is Said.DONE
    expected, found = (checkpoints.newest(folder / CHECKPOINTS) for folder in (one, two))
    assert expected is not None
    assert found is not None
    wanted, tensors = checkpoints.load_tensors(expected), checkpoints.load_tensors(found)
    assert tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if not name.startswith("generator."):
            assert tensors[name].allclose(tensor, atol=2e-6), name
    assert json.loads((two / RESULT / RESULT_MANIFEST).read_text())["processes"] == 2
    ours, theirs = load_file(weights(two)), load_file(weights(one))
    assert all(ours[name].float().allclose(theirs[name].float(), atol=1e-3) for name in theirs)


def test_what_the_first_process_refuses_all_do(tmp_path: Path, base: Path) -> None:
    """None of them waits for one that has gone."""
    folder = ordered(tmp_path / "job", base, with_settings(), [*conversations(3), {"prompt": "Why?"}])
    (refusal,) = train_together(folder, 2, ends=Exit.REFUSED)
    assert (refusal.said, refusal.reason) == (Said.REFUSED, "DATASET_MALFORMED")
    assert "line 4" in refusal.message
