import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.trainer.solo.killed import POINTS, SETTINGS


# Whole, a hundred processes.
@pytest.mark.timeout(1200)
def test_a_solo_job_killed_at_any_write_point_ends_with_the_bits_of_one_never_killed(
    tmp_path: Path, base: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.trainer.solo.killed", str(tmp_path), str(base)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "kernels" not in done.stderr
    digests = json.loads(done.stdout.splitlines()[-1])
    assert digests.keys() == SETTINGS.keys()
    for method, found in digests.items():
        # Undisturbed, killed at a point or more, and at a point that there is not.
        assert found.keys() > {"0", str(POINTS + 1)}
        assert set(found.values()) == {found["0"]}, (method, found)
