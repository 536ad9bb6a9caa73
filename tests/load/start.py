"""How long from nothing to the first answer: the suite beside vLLM alone.

``python -m tests.load.start`` alternates two starts from a cold process and a warm disk:
the whole suite, as ``trivium up`` starts it, until the first one-token answer has come
through the gateway; and a bare script that imports vLLM, builds one engine of the same
shape and generates one token.  The ratio is what six more services, the slots and the
checks add to the wait.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from trivium_client.answers import Sampling

from services.chassis.models import ModelSettings, resolve
from services.chassis.resources import Role, shares
from services.ops.supervisor import launch
from tests.load.machine import hardware

_READY = "answered"


@dataclass(frozen=True, slots=True)
class Start:
    """One start: wall seconds to the first answer, and the processor seconds of all its processes until then."""

    seconds: float
    cpu_seconds: float


def suite_start() -> Start:
    """Start everything in a new folder and ask for one token."""
    with tempfile.TemporaryDirectory(prefix="trivium-start-") as folder:
        begun = time.monotonic()
        with launch(Path(folder)) as suite, suite.client() as client:
            client.answer("Say yes.", sampling=Sampling(max_tokens=1))
            return Start(time.monotonic() - begun, _cpu_seconds(suite.record.pid))


def bare_start(base: Path) -> Start:
    """Start vLLM alone in a script and generate one token."""
    environment = {**os.environ, **shares()[Role.ENGINE].environment(), "VLLM_PLUGINS": "", "VLLM_HOST_IP": "127.0.0.1"}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    begun = time.monotonic()
    command = [sys.executable, "-m", "tests.load.start", "--bare", str(base)]
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=quiet, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        for line in child.stdout:
            if line.strip() == _READY:
                start = Start(time.monotonic() - begun, _cpu_seconds(child.pid))
                child.stdin.close()
                return start
    raise RuntimeError("vLLM alone did not start; run the command with --bare to see why")


def bare(base: str) -> None:
    """Build one engine as vLLM's own documentation does, with our shape, and generate one token."""
    from vllm import LLM, SamplingParams

    engine = LLM(base, dtype="bfloat16", max_model_len=2048, max_num_seqs=32, enforce_eager=True)
    engine.generate(["Say yes."], SamplingParams(max_tokens=1, temperature=0.0), use_tqdm=False)
    print(_READY, flush=True)
    sys.stdin.read()


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, those that ended included."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(time.user + time.system + time.children_user + time.children_system for time in times)


def _wall(starts: list[Start]) -> float:
    return statistics.median(start.seconds for start in starts)


def _cpu(starts: list[Start]) -> float:
    return statistics.median(start.cpu_seconds for start in starts)


def main() -> None:
    """Alternate, print the table, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bare", metavar="FOLDER", help="be the script that is compared with")
    asked = parser.parse_args()
    if asked.bare:
        bare(asked.bare)
        return
    base = resolve(ModelSettings().base_model).path
    bare_start(base)  # Warms the disk for both.
    measured: dict[str, list[Start]] = {"suite": [], "vllm": []}
    for _ in range(asked.runs):
        measured["suite"].append(suite_start())
        measured["vllm"].append(bare_start(base))
    table = Table("from nothing to the first answer", "median s", "fastest s", "slowest s", "median CPU s", box=None)
    for name, starts in measured.items():
        seconds = [start.seconds for start in starts]
        figures = (_wall(starts), min(seconds), max(seconds), _cpu(starts))
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
    Console().print(table)
    outcome = {
        "benchmark": "start",
        "runs": asked.runs,
        "start_seconds": round(_wall(measured["suite"]), 2),
        "vllm_start_seconds": round(_wall(measured["vllm"]), 2),
        "ratio": round(_wall(measured["suite"]) / _wall(measured["vllm"]), 3),
        "cpu_ratio": round(_cpu(measured["suite"]) / _cpu(measured["vllm"]), 3),
        "all_seconds": {name: [round(start.seconds, 2) for start in starts] for name, starts in measured.items()},
        "cores": len(os.sched_getaffinity(0)),
        "hardware": hardware(),
    }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
