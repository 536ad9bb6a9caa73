"""A job that trains alone and was begun by an earlier release ends with the bits of one that was never disturbed."""

from pathlib import Path

import pytest

from services.trainer import checkpoints
from services.trainer.settings import Method, Objective, Settings
from services.trainer.solo.order import Started, Stepped
from tests.unit.trainer.old_formats import write_solo
from tests.unit.trainer.solo.small_jobs import Job, with_settings

# With dropout, so that generators count; with evaluations, so that best weights do.
DORA = with_settings(method=Method.DORA, dropout=0.2, evaluation_steps=1)
JOBS = [DORA, with_settings(method=Method.QLORA, objective=Objective.DPO), with_settings(evaluation_steps=2)]


@pytest.mark.sampled(every=2)
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("settings", JOBS, ids=["dora", "qlora dpo", "full"])
def test_a_job_goes_on_to_the_bits_that_it_would_have_had(
    tmp_path: Path, base: Path, settings: Settings, number: int
) -> None:
    calm, broken, resumed = (Job(tmp_path / name, base, settings) for name in ("calm", "broken", "resumed"))
    if settings.evaluation_steps:
        for job in (calm, broken, resumed):
            job.validation = job.training[:3]
    whole = calm.finish()
    broken.stop_after(2)
    now = checkpoints.newest(broken.order.kept)
    assert now is not None
    write_solo(resumed.order.kept, number, now.folder)
    found = checkpoints.newest(resumed.order.kept)
    assert found is not None
    assert found.format == number
    assert resumed.finish() == whole
    assert resumed.said(Started)[0].progress.step == 2
    # Only what was told is told again: by releases that remembered it.
    assert [report.progress.step for report in resumed.said(Stepped)] == ([1, 2, 3] if number == 3 else [3])
