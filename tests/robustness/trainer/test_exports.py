"""A version made of a checkpoint of a job on the bank, without base or bank, is what the worker itself would have left."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from services.trainer import checkpoints, exports
from services.trainer.moves import good_step
from services.trainer.settings import Keep
from services.trainer.work import CHECKPOINTS, RESULT, RESULT_MANIFEST, Command, Do, Said, Work
from tests.robustness.trainer.test_joint import MIXED
from tests.unit.trainer.joint.company import text
from tests.unit.trainer.joint.workers import Bench, is_last, join


@pytest.mark.sampled(every=4)
@pytest.mark.parametrize("name", ["plain", "layer", "rslora", "pairs"])
def test_the_last_checkpoint_gives_every_byte_of_the_result(bench: Bench, tmp_path: Path, name: str) -> None:
    settings, rows = MIXED[name]
    assert settings.keep is not Keep.BEST or not settings.validation_ratio
    folder = bench.job(name, settings, text(rows))
    worker = bench.worker()
    worker.tell(join(folder))
    assert worker.until(is_last).said is Said.DONE
    worker.end()
    newest, earlier = checkpoints.kept(folder / CHECKPOINTS)
    made = {}
    for checkpoint in (newest, earlier):
        into = tmp_path / f"made-{checkpoint.progress.step}"
        into.mkdir()
        exports.save(checkpoint, tmp_path / "no-base", into)
        made[checkpoint] = {path.name: path.read_bytes() for path in into.iterdir()}
    result = {path.name: path.read_bytes() for path in (folder / RESULT).iterdir()}
    facts = json.loads(result.pop(RESULT_MANIFEST))
    assert made[newest] == result
    assert made[earlier].keys() == result.keys()
    assert made[earlier] != result
    assert exports.facts_of(newest) == facts


def test_a_new_job_with_a_lower_rate_goes_on_from_the_last_good_checkpoint_of_one_that_diverged(
    bench: Bench, tmp_path: Path
) -> None:
    settings, rows = MIXED["plain"]
    folder = bench.job("diverging", replace(settings, epochs=100, checkpoint_steps=1), text(rows))
    worker = bench.worker()
    worker.tell(join(folder))
    worker.until(lambda line: line.said is Said.STEP and line.progress.step == 4)
    worker.tell(Command(Do.STOP, job=folder.name, epoch=1))
    stopped = worker.until(is_last)
    assert stopped.said is Said.STOPPED
    learned = stopped.progress.loss
    # What no schedule brings about at this size: a rate at which the next step leaves the numbers.
    work = Work.read(folder)
    replace(work, settings=replace(work.settings, learning_rate=1e30, max_gradient_norm=0.0)).write(folder)
    worker.tell(join(folder, epoch=2))
    refused = worker.until(is_last)
    assert refused.reason == "TRAINING_DIVERGED"
    done_steps = max(line.progress.step for line in worker.said if line.said is Said.STEP)
    assert f"at step {done_steps + 1} " in refused.message
    kept = {found.progress.step: found for found in checkpoints.kept(folder / CHECKPOINTS)}
    # The newest is of the step that led out of all bounds.
    assert max(kept) == done_steps
    good = kept[good_step(kept, refused.sound_step)]
    made = tmp_path / "version"
    made.mkdir()
    exports.save(good, tmp_path / "no-base", made)
    slower = replace(settings, learning_rate=settings.learning_rate / 10)
    again = bench.job("again", slower, text(rows), start_path=str(made))
    worker.tell(join(again))
    first = worker.until(lambda line: line.said is Said.STEP or is_last(line))
    assert first.said is Said.STEP, first.message
    assert worker.until(is_last).said is Said.DONE
    worker.end()
    assert 0 < first.progress.loss < 1.1 * learned
