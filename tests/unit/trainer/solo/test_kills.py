import json
from pathlib import Path

import pytest

from tests.unit.trainer import programs
from tests.unit.trainer.solo.killed import POINTS, SETTINGS


# Whole, a hundred processes.
@pytest.mark.timeout(1200)
def test_a_solo_job_killed_at_any_write_point_ends_with_the_bits_of_one_never_killed(
    tmp_path: Path, base: Path
) -> None:
    done = programs.start("tests.unit.trainer.solo.killed", tmp_path, base).ended(1200)
    assert done.status == 0, done.errors[-2000:]
    assert "kernels" not in done.errors
    digests = json.loads(done.output.splitlines()[-1])
    assert digests.keys() == SETTINGS.keys()
    for method, found in digests.items():
        # Undisturbed, killed at a point or more, and at a point that there is not.
        assert found.keys() > {"0", str(POINTS + 1)}
        assert set(found.values()) == {found["0"]}, (method, found)
