import os
import subprocess
import sys
from pathlib import Path


def test_an_upload_that_is_killed_at_any_step_leaves_a_whole_dataset_or_none(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.robustness.trainer.dataset_kills", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    # Space, folder, file, pieces, name; the blob; the row.
    assert int(ran.stdout) >= 10
