"""The servers that a test run starts end with it, also when it is killed and tears nothing down."""

import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.ops import gotools
from tests import tied
from tests.postgres import find_binaries
from tests.stack import CHECKOUT, Process

# A run that starts a server, tells its number, and waits.
RUN = """
import signal, sys
from pathlib import Path
from tests.postgres import Postgres, find_binaries
from tests.s3 import S3
from tests.stack import Process

folder = Path(sys.argv[1])
server = {server}
server.start()
print(server.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user may enter, too."""
    made = Path(tempfile.mkdtemp(prefix="trivium-tied-"))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("server", ["Postgres(folder, find_binaries())", "S3(folder)", "Process('access', folder)"])
def test_a_killed_run_leaves_no_server(folder: Path, server: str) -> None:
    # What is missing here is missing there: this run skips or builds it.
    find_binaries()
    gotools.program("versitygw")
    command: list[str | Path] = [sys.executable, "-c", RUN.format(server=server), folder]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        started = psutil.Process(int(run.stdout.readline()))
        family = [started, *started.children(recursive=True)]
        run.kill()
        assert run.wait(30) == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=30)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    for process in left:
        process.kill()
    assert not left


def test_a_service_that_has_ended_is_gone_though_nobody_waits_for_it_and_its_status_is_kept(tmp_path: Path) -> None:
    service = Process("access", tmp_path)
    for number in (signal.SIGKILL, signal.SIGTERM):
        service.start()
        process = psutil.Process(service.pid)
        process.send_signal(number)
        gone, _ = psutil.wait_procs([process], timeout=60)
        assert gone
        assert service.died(30) == (-number if number is signal.SIGKILL else 0)


def test_a_server_is_not_started_where_it_would_end_early() -> None:
    refusals = []

    def start() -> None:
        with pytest.raises(AssertionError, match="thread"):
            tied.start(["/bin/true"]).wait()
        refusals.append(True)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert refusals
