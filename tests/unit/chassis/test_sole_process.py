"""One process at a time over a folder."""

import os
import signal
from pathlib import Path

import pytest

from services.chassis.errors import Unstartable
from services.chassis.sole_process import sole_process
from tests.stack import eventually


def test_a_second_one_is_refused_and_told_which_process_it_is_and_what_to_do(tmp_path: Path) -> None:
    with sole_process(tmp_path / "trainer", "trainer"):
        with pytest.raises(Unstartable, match=rf"process {os.getpid()}\b.*TRIVIUM_DATA_DIR"):
            with sole_process(tmp_path / "trainer", "trainer"):
                pass
        with sole_process(tmp_path / "another", "trainer"):
            pass
    with sole_process(tmp_path / "trainer", "trainer"):
        pass


def test_the_folder_of_a_killed_one_is_free(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with sole_process(tmp_path, "trainer"):
            (tmp_path / "held").touch()
            signal.pause()
    eventually((tmp_path / "held").exists, "the child holds the folder")
    with pytest.raises(Unstartable):
        with sole_process(tmp_path, "trainer"):
            pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with sole_process(tmp_path, "trainer"):
        pass
