import json
import os
import subprocess
import sys
from pathlib import Path


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
    # Two checkpoints of nine points each, the end of every step, and the calm run.
    assert {method: len(found) for method, found in digests.items()} == {"dora": 2 * 9 + 2 + 1, "qlora": 4, "full": 4}
    for method, found in digests.items():
        assert set(found.values()) == {found["0"]}, method
