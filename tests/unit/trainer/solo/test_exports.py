"""A version made of a checkpoint's tensors, without the model, is what the job itself would have left."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from services.trainer import checkpoints, exports
from services.trainer.settings import Keep, Method
from tests.unit.trainer.solo.small_jobs import METHODS, Job, with_settings
from tests.unit.trainer.solo.test_learning import weights_of


@pytest.mark.parametrize("method", METHODS)
def test_the_last_checkpoint_gives_the_files_of_the_result_and_an_earlier_one_its_own_weights(
    tmp_path: Path, base: Path, method: Method
) -> None:
    settings = with_settings(method=method, keep=Keep.LAST, checkpoint_steps=1)
    job = Job(tmp_path / "job", base, settings, facts={"code": "1.0", "rows": 10})
    job.finish()
    newest, earlier = checkpoints.kept(job.order.kept)
    made = {}
    for step, checkpoint in (("last", newest), ("earlier", earlier)):
        folder = tmp_path / step
        folder.mkdir()
        exports.save(checkpoint, base, folder)
        made[step] = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = {path.name: path.read_bytes() for path in job.weights.parent.iterdir()}
    assert made["last"] == result
    assert made["earlier"].keys() == result.keys()
    assert made["earlier"][job.weights.name] != result[job.weights.name]
    # What was trained one step less.
    tensors = load_file(tmp_path / "earlier" / job.weights.name)
    held = checkpoints.load_tensors(earlier)
    assert len(tensors) == len([name for name in held if name.startswith("weight.")]) == len(weights_of(job))
    assert exports.facts_of(newest) == {
        "code": "1.0",
        "rows": 10,
        "weights_step": newest.progress.step,
        "evaluations": [],
    }
