"""An engine's memory: what is reckoned before it starts, what its processes take, and when that is free again."""

import signal
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from services.generator.footprint import (
    PROCESS_BYTES,
    estimated_bytes,
    processes_of,
    resident_bytes,
    wait_until_gone,
)
from services.generator.verification import BaseRules
from tests import tied
from tests.harness.timeouts import HANG_SECONDS


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A process and one below it, both of which only a kill ends."""
    program = "trap '' TERM; (trap '' TERM; echo ready; read _ < <(:); sleep 1000) & wait"
    parent = tied.start(["bash", "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    below = psutil.Process(parent.pid).children(recursive=True)
    yield parent
    for process in below:
        if process.is_running():
            process.kill()
    parent.kill()
    parent.wait()
    parent.stdout.close()


def test_the_estimate_counts_weights_slots_cache_and_processes(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 500)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 9999)
    rules = BaseRules({"q_proj": (10, 20), "v_proj": (30, 40)}, max_rank=8)
    assert estimated_bytes(tmp_path, rules, 0, 7) == 1500 + 7 + PROCESS_BYTES
    assert estimated_bytes(tmp_path, rules, 3, 0) == 1500 + 3 * 8 * 100 * 2 * 2 + PROCESS_BYTES


def test_what_is_measured_is_the_whole_family_and_nothing_of_what_ended(family):
    alone = psutil.Process(family.pid).memory_info().rss
    assert resident_bytes([family.pid]) > alone > 0
    assert resident_bytes([]) == 0
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert resident_bytes([gone.pid]) == 0


def test_it_waits_for_the_last_of_a_family_and_kills_what_does_not_go(family):
    processes = processes_of([family.pid])
    assert len(processes) >= 2
    family.send_signal(signal.SIGKILL)
    # The parent is gone, the one below it does not mind.
    wait_until_gone(processes, 0.2)
    _, left = psutil.wait_procs(processes[1:], timeout=HANG_SECONDS)
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
    wait_until_gone(processes, 0.0)
